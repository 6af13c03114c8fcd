"""The stream of a tenant's changes: the api's end appends and wakes, the drain's end takes and removes.

A change leaves the stream only after its outcome was committed. The head of the stream is always what
must be applied next, so whoever drains reads from the start; consumer groups would hand the next change
to a younger drain while an older one still held the one before it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import uuid
from collections.abc import Iterable
from typing import Any

import redis
import redis.asyncio

from usher_core import errors, ids
from usher_core.changes import records
from usher_core.queues import connections, keys

# One step: refuse when the oldest change has waited too long, append all, claim the wake if it is free.
APPEND = """
local head = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
if head then
  local now = redis.call('TIME')
  local age = now[1] * 1000 + math.floor(now[2] / 1000) - tonumber(string.match(head[1], '^%d+'))
  if age > tonumber(ARGV[3]) then return -1 end
end
for number = 4, #ARGV do redis.call('XADD', KEYS[1], '*', 'c', ARGV[number]) end
redis.call('SADD', KEYS[3], ARGV[1])
return redis.call('SET', KEYS[2], 'queued', 'NX', 'PX', ARGV[2]) and 1 or 0
"""

# A wake is taken back only while no drain has made it its own.
RELEASE = "if redis.call('GET', KEYS[1]) == 'queued' then redis.call('DEL', KEYS[1]) end"

# A drain gives up only while its stream is empty and nobody has taken over.
GIVE_UP = """
if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 1 end
if redis.call('XLEN', KEYS[1]) > 0 then return 0 end
redis.call('DEL', KEYS[2], KEYS[4])
redis.call('SREM', KEYS[3], ARGV[1])
return 1
"""


# A drain sets its wake only while the wake is its own or nobody's.
HOLD = """
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""


class Backlogged(errors.UsherError):
    """The tenant's oldest pending change is older than a request waits: one more would only wait too."""


_Waiting = tuple[bytes, asyncio.Future[bool]]

# Changes in one command: each may be a megabyte.
MOST_AT_ONCE = 128


class Appender:
    """The api's end of every stream; one an event loop.

    What concurrent requests append while a command is under way goes out together in the next one.
    """

    def __init__(self, client: redis.asyncio.Redis, *, oldest: float) -> None:
        """`oldest`: the age in seconds of the oldest pending change beyond which none is added."""
        self._script = client.register_script(APPEND)
        self._release = client.register_script(RELEASE)
        self._oldest = int(oldest * 1000)
        self._waiting: dict[ids.TenantId, list[_Waiting]] = {}
        self._sender: asyncio.Task[None] | None = None

    async def append(self, tenant: ids.TenantId, change: records.Change) -> bool:
        """Append a change; tells whether the caller must enqueue a drain for the tenant.

        Raises:
            Backlogged: the change was not appended.
            QueueUnavailable: the change may have been appended, or not.
        """
        appended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, []).append((change.encode(), appended))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send(), name="append")
        return await appended

    async def let_go(self, tenant: ids.TenantId) -> None:
        """Take a wake back whose job could not be enqueued.

        Raises:
            QueueUnavailable: then it runs out by itself.
        """
        with connections.wrapped():
            await self._release(keys=[keys.wake(tenant)])

    async def _send(self) -> None:
        try:
            while self._waiting:
                tenant, waiting = self._waiting.popitem()
                batch, rest = waiting[:MOST_AT_ONCE], waiting[MOST_AT_ONCE:]
                if rest:
                    self._waiting[tenant] = rest
                try:
                    await self._send_batch(tenant, batch)
                except errors.QueueUnavailable as exc:
                    # What is away for one is away for all: nobody waits for another's time-out.
                    for one in (batch, *self._waiting.values()):
                        _refuse(one, exc)
                    self._waiting.clear()
        finally:
            self._sender = None

    async def _send_batch(self, tenant: ids.TenantId, batch: list[_Waiting]) -> None:
        try:
            with connections.wrapped():
                answer = await self._script(
                    keys=[keys.changes(tenant), keys.wake(tenant), keys.PENDING],
                    args=[str(tenant), keys.WAKE_QUEUED, self._oldest, *(data for data, _ in batch)],
                )
        except errors.QueueUnavailable:
            raise
        except Exception as exc:
            # Every request gets its answer, whatever broke in the client or the event loop.
            raise errors.QueueUnavailable(f"Valkey: {type(exc).__name__}") from exc
        if answer < 0:
            _refuse(batch, Backlogged(f"tenant {tenant}"))
            return
        must_wake = answer == 1
        for _, appended in batch:
            if not appended.done():  # else its request was cancelled
                appended.set_result(must_wake)
                must_wake = False


def _refuse(batch: list[_Waiting], failure: errors.UsherError) -> None:
    for _, appended in batch:
        if not appended.done():
            appended.set_exception(failure)


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What the head of a stream held, and how things stand around it."""

    entries: list[tuple[str, bytes]]
    others_wait: bool


class Tail:
    """The drain's end of one tenant's stream: take from the head, apply, settle, take again.

    Settling is sent together with the next take, in one round trip, and before it on the wire: the
    clients have their answers while the drain already waits for more. Giving up or handing over sends what
    is left.
    """

    def __init__(self, client: redis.Redis, tenant: ids.TenantId) -> None:
        self._client = client
        self._tenant = str(tenant)
        self._stream, self._wake = keys.changes(tenant), keys.wake(tenant)
        self._attempts = keys.attempts(tenant)
        self._owner = uuid.uuid4().hex
        self._bell = "0-0"
        self._unsent: list[tuple[Any, ...]] = []
        self._give_up = client.register_script(GIVE_UP)
        self._hold = client.register_script(HOLD)

    def open(self) -> tuple[int, str | None]:
        """Take the wake over; return the attempts that died at the head, and the end of suspicion.

        Changes up to and including the second value (a stream id) are to be applied one by one.
        """
        with connections.wrapped():
            pipe = self._client.pipeline(transaction=False)
            pipe.set(self._wake, self._owner, px=keys.WAKE_RUNNING)
            pipe.xrevrange(keys.BELL, count=1)
            pipe.hmget(self._attempts, "deaths", "until")
            _, bell, (deaths, until) = pipe.execute()
        if bell:
            self._bell = bell[0][0].decode()
        return int(deaths or 0), until.decode() if until else None

    def take(self, count: int, *, block: float) -> Taken:
        """Read up to `count` entries from the head; wait up to `block` seconds for the first.

        The attempt is counted in the same breath: a worker that dies over these entries leaves a trace.
        """
        wait = ("BLOCK", max(1, int(block * 1000))) if block > 0 else ()
        names = (self._stream, keys.BELL) if block > 0 else (self._stream,)
        since = ("0-0", self._bell) if block > 0 else ("0-0",)
        with connections.wrapped():
            *_, streams, _, waiting = self._send(
                ("XREAD", "COUNT", count, *wait, "STREAMS", *names, *since),
                ("HINCRBY", self._attempts, "deaths", 1),
                ("LLEN", keys.JOBS),
            )
        entries: list[tuple[str, bytes]] = []
        for name, items in _pairs(streams):
            if name.decode() == keys.BELL:
                self._bell = items[-1][0].decode()
            else:
                entries = [(position.decode(), fields[b"c"]) for position, fields in items]
        if not entries:
            self.forgive()
        return Taken(entries, others_wait=waiting > 0)

    def settle(self, positions: Iterable[str], replies: Iterable[tuple[str, bytes]]) -> None:
        """Answer the waiting api processes and remove the entries, whose outcomes are committed."""
        lists: dict[str, list[bytes]] = {}
        for reply_to, data in replies:
            lists.setdefault(reply_to, []).append(data)
        for reply_to, values in lists.items():
            self._unsent.append(("RPUSH", reply_to, *values))
            self._unsent.append(("PEXPIRE", reply_to, keys.REPLIES_LIFE))
        self._unsent.append(("XDEL", self._stream, *positions))
        self.forgive()

    def forgive(self) -> None:
        """Count no death: the attempt ended, well or not, with its process alive."""
        self._unsent.append(("HDEL", self._attempts, "deaths"))

    def suspect(self, until: str) -> None:
        """Note that every entry up to `until` is to be applied alone, also by a successor."""
        self._unsent.append(("HSET", self._attempts, "until", until))

    def trust(self) -> None:
        """Note that suspicion has ended."""
        self._unsent.append(("HDEL", self._attempts, "until"))

    def peek(self, count: int) -> str | None:
        """Tell the position of the last of the first `count` entries."""
        with connections.wrapped():
            *_, entries = self._send(("XRANGE", self._stream, "-", "+", "COUNT", count))
        return entries[-1][0].decode() if entries else None

    def renew(self) -> bool:
        """Keep the wake; `False` when another drain has taken it over."""
        with connections.wrapped():
            self._send()
            return bool(self._hold(keys=[self._wake], args=[self._owner, self._owner, keys.WAKE_RUNNING]))

    def give_up(self) -> bool:
        """Let the wake go; `False` while the stream still holds something."""
        with connections.wrapped():
            self._send()
            return bool(
                self._give_up(
                    keys=[self._stream, self._wake, keys.PENDING, self._attempts],
                    args=[self._tenant, self._owner],
                )
            )

    def discard(self) -> None:
        """Drop the stream of a tenant that is gone; nothing in it was acknowledged."""
        with connections.wrapped():
            self._send(
                ("DEL", self._stream, self._wake, self._attempts), ("SREM", keys.PENDING, self._tenant)
            )

    def hand_over(self, life: int) -> None:
        """Mark the wake as queued for `life` milliseconds: another drain is on its way."""
        with connections.wrapped():
            self._send()
            self._hold(keys=[self._wake], args=[self._owner, "queued", life])

    def _send(self, *commands: tuple[Any, ...]) -> list[Any]:
        sent, self._unsent = [*self._unsent, *commands], []
        if not sent:
            return []
        pipe = self._client.pipeline(transaction=False)
        for command in sent:
            pipe.execute_command(*command)  # type: ignore[no-untyped-call]
        try:
            return pipe.execute()
        except redis.RedisError:
            # Nothing is lost: settling again is harmless, and the change log knows what was applied.
            self._unsent = sent[: len(sent) - len(commands)]
            raise


def _pairs(streams: Any) -> list[tuple[bytes, list[Any]]]:
    """Read XREAD's answer, which RESP2 gives as a list and RESP3 as a map."""
    if not streams:
        return []
    return list(streams.items()) if isinstance(streams, dict) else [(name, items) for name, items in streams]
