"""What waits in Valkey, and waking what nobody wakes; the sweep's end of the queue."""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Sequence

import redis
import redis.exceptions
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


# Keep a wake whose job still waits in RQ's queue, or every change that comes would add one more job.
KEEP = """
local wake = redis.call('GET', KEYS[1])
if wake == 'queued' then return redis.call('PEXPIRE', KEYS[1], ARGV[1]) end
if wake then return 0 end
redis.call('SET', KEYS[1], 'queued', 'PX', ARGV[1])
return 1
"""


# Put a promised change at the end of its stream, unless it stands there.
PUT_BACK = """
if redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1 then return 0 end
redis.call('HSET', KEYS[2], ARGV[1], redis.call('XADD', KEYS[1], '*', 'c', ARGV[2]))
redis.call('SADD', KEYS[3], ARGV[3])
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
        self._keep = client.register_script(KEEP)
        self._put_back = client.register_script(PUT_BACK)

    def read(self) -> list[Backlog]:
        """List the tenants with pending changes; forget those that have none.

        A wake whose job waits in RQ's queue is kept, however long it waits there.

        Raises:
            QueueUnavailable: Valkey is away.
        """
        with connections.wrapped():
            tenants = sorted(
                member.decode() for member in self._client.smembers(keys.PENDING) if isinstance(member, bytes)
            )
            pipe = self._client.pipeline(transaction=False)
            pipe.time()
            # Before the wakes: a job that is taken meanwhile counts as one that waits.
            pipe.lrange(keys.JOBS, 0, -1)
            for tenant in tenants:
                pipe.xlen(keys.changes(tenant))
                pipe.xrange(keys.changes(tenant), count=1)
                pipe.get(keys.wake(tenant))
                pipe.pttl(keys.wake(tenant))
            (seconds, micros), waiting, *answers = pipe.execute()
            now = seconds + micros / 1e6
            found = {}
            doubtful = set()
            for number, tenant in enumerate(tenants):
                pending, head, wake, left = answers[number * 4 : number * 4 + 4]
                if pending == 0:
                    self._forget(keys=[keys.changes(tenant), keys.wake(tenant), keys.PENDING], args=[tenant])
                    continue
                if wake is None or (wake == b"queued" and left < keys.WAKE_QUEUED - keys.WAKE_LOST):
                    doubtful.add(tenant)
                found[tenant] = pending, now - int(head[0][0].split(b"-")[0]) / 1000 if head else 0.0
            lost = doubtful - self._kept(doubtful, waiting)
        return [
            Backlog(ids.TenantId(uuid.UUID(tenant)), pending, max(oldest, 0.0), tenant not in lost)
            for tenant, (pending, oldest) in found.items()
        ]

    def _kept(self, tenants: set[str], waiting: Sequence[bytes]) -> set[str]:
        """List those of the tenants whose job is among the waiting ones; their wakes hold on."""
        if not tenants:
            return set()
        kept = tenants & set(jobs.tenants(self._client, waiting))
        for tenant in kept:
            # Without memory a wake that ran out is not set anew: the tenant gets one more job, at most.
            with contextlib.suppress(redis.exceptions.OutOfMemoryError):
                self._keep(keys=[keys.wake(tenant)], args=[keys.WAKE_QUEUED])
        return kept

    def generation(self) -> tuple[str, bool]:
        """Tell the run id of the server, and whether the streams belong to it; see `generations`.

        Raises:
            QueueUnavailable: Valkey is away.
        """
        with connections.wrapped():
            run_id = str(self._client.info("server")["run_id"])
            return run_id, self._client.get(keys.GENERATION) == run_id.encode()

    def begin(self, run_id: str) -> None:
        """Let the api append again: everything promised is back in the streams.

        Raises:
            QueueUnavailable: Valkey is away or full.
        """
        with connections.wrapped():
            self._client.set(keys.GENERATION, run_id)

    def missing(self, tenant: ids.TenantId, changes: Sequence[ids.ChangeId]) -> list[ids.ChangeId]:
        """List those of the promised changes of a tenant that its stream does not hold.

        Raises:
            QueueUnavailable: Valkey is away.
        """
        with connections.wrapped():
            positions = self._client.hmget(keys.inbox(tenant), [str(change) for change in changes])
        return [change for change, position in zip(changes, positions, strict=True) if position is None]

    def put_back(self, tenant: ids.TenantId, change: ids.ChangeId, entry: bytes) -> bool:
        """Put a promised change at the end of its stream; `False` when it stands there.

        Raises:
            QueueUnavailable: Valkey is away or full.
        """
        with connections.wrapped():
            names = [keys.changes(tenant), keys.inbox(tenant), keys.PENDING]
            return bool(self._put_back(keys=names, args=[str(change), entry, str(tenant)]))

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
