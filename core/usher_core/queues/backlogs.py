"""What waits in Valkey, and waking what nobody wakes; the sweep's end of the queue."""

from __future__ import annotations

import dataclasses
import uuid

import redis
import rq

from usher_core import errors, ids
from usher_core.queues import connections, jobs, keys

# Forget a tenant only while its stream is empty and no drain is on its way: in one step, or a change
# that arrives in between would be looked after by nobody.
FORGET = """
if redis.call('XLEN', KEYS[1]) == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  return redis.call('SREM', KEYS[3], ARGV[1])
end
return 0
"""


# Take a wake that is nobody's, or whose job is lost: still `queued`, and that for long.
CLAIM = """
local wake = redis.call('GET', KEYS[1])
if wake and (wake ~= 'queued' or redis.call('PTTL', KEYS[1]) >= tonumber(ARGV[2])) then return 0 end
redis.call('SET', KEYS[1], 'queued', 'PX', ARGV[1])
return 1
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Backlog:
    """The pending changes of one tenant; `oldest` is the oldest one's age in seconds."""

    tenant: ids.TenantId
    pending: int
    oldest: float
    awake: bool


class Backlogs:
    """Reads what waits, and wakes drains for it."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._jobs: rq.Queue | None = None
        self._forget = client.register_script(FORGET)
        self._claim = client.register_script(CLAIM)

    def read(self) -> list[Backlog]:
        """List the tenants with pending changes; forget those that have none.

        Raises:
            QueueUnavailable: Valkey is away.
        """
        with connections.wrapped():
            tenants = sorted(
                member.decode() for member in self._client.smembers(keys.PENDING) if isinstance(member, bytes)
            )
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            pipe.llen(keys.JOBS)
            for tenant in tenants:
                pipe.xlen(keys.changes(tenant))
                pipe.xrange(keys.changes(tenant), count=1)
                pipe.get(keys.wake(tenant))
                pipe.pttl(keys.wake(tenant))
            (seconds, micros), jobs_waiting, *answers = pipe.execute()
            now = seconds + micros / 1e6
            backlogs = []
            for number, tenant in enumerate(tenants):
                pending, head, wake, left = answers[number * 4 : number * 4 + 4]
                if pending == 0:
                    self._forget(keys=[keys.changes(tenant), keys.wake(tenant), keys.PENDING], args=[tenant])
                    continue
                lost = wake == b"queued" and not jobs_waiting and left < keys.WAKE_QUEUED - keys.WAKE_LOST
                oldest = now - int(head[0][0].split(b"-")[0]) / 1000 if head else 0.0
                backlogs.append(
                    Backlog(
                        ids.TenantId(uuid.UUID(tenant)),
                        pending,
                        max(oldest, 0.0),
                        wake is not None and not lost,
                    )
                )
        return backlogs

    def wake(self, backlog: Backlog) -> bool:
        """Enqueue a drain for a tenant that nobody drains; `False` when somebody was quicker.

        Raises:
            QueueUnavailable: Valkey is away or full.
        """
        key = keys.wake(backlog.tenant)
        with connections.wrapped():
            if not self._claim(keys=[key], args=[keys.WAKE_QUEUED, keys.WAKE_QUEUED - keys.WAKE_LOST]):
                return False
            try:
                self._jobs = self._jobs or jobs.queue(self._client)
                jobs.enqueue(self._jobs, backlog.tenant)
            except errors.QueueUnavailable:
                self._client.delete(key)
                raise
        return True
