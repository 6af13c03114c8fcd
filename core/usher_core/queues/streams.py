"""The drain's end of a tenant's stream of changes: take from the head, apply, settle; `appends` is the other.

A change leaves the stream only after its outcome was committed. The head of the stream is always what
must be applied next, so whoever drains reads from the start; consumer groups would hand the next change
to a younger drain while an older one still held the one before it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import uuid
from collections.abc import Iterable
from typing import Any

import redis
import structlog

from usher_core import ids
from usher_core.queues import connections, keys, lines

log = structlog.get_logger(__name__)

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


# A script may say that it is to run even in a server that is full: this one needs a few bytes.
NOTE = """#!lua flags=allow-oom
return redis.call(ARGV[1], KEYS[1], unpack(ARGV, 2))
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Taken:
    """What the head of a stream held, and how things stand around it."""

    entries: list[tuple[str, bytes]]
    others_wait: bool


class Tail:
    """The drain's end of one tenant's stream: take from the head, apply, settle, take again.

    What settles is sent at once, for clients wait for it; the answers to it are read with those of the next
    take, so that there is one round trip for both. All of it goes over one connection: what is sent first is
    done first. `close` gives that back.
    """

    def __init__(self, client: redis.Redis, tenant: ids.TenantId) -> None:
        self._client = client
        self._line = lines.Line(client)
        self._tenant = str(tenant)
        self._stream, self._wake = keys.changes(tenant), keys.wake(tenant)
        self._attempts = keys.attempts(tenant)
        self._owner = uuid.uuid4().hex
        self._bell = "0-0"
        self._unsent: list[lines.Command] = []
        self._unconfirmed: list[lines.Command] = []
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
                self._note("HINCRBY", "deaths", 1),
                ("LLEN", keys.JOBS),
            )
        entries: list[tuple[str, bytes]] = []
        for name, items in _pairs(streams):
            if name.decode() == keys.BELL:
                self._bell = items[-1][0].decode()
            else:
                entries = [(position.decode(), fields[1]) for position, fields in items]
        if not entries:
            self.forgive()
        return Taken(entries, others_wait=waiting > 0)

    def settle(
        self,
        positions: Iterable[str],
        replies: Iterable[tuple[str, bytes]],
        promised: Iterable[ids.ChangeId] = (),
    ) -> None:
        """Answer the waiting api processes and remove the entries, whose outcomes are committed.

        `promised`: those of the changes that stood in the inbox too. Where Valkey is away, the next take says
        so, and settles them first once it is back.
        """
        lists: dict[str, list[bytes]] = {}
        for reply_to, data in replies:
            lists.setdefault(reply_to, []).append(data)
        for reply_to, values in lists.items():
            self._unsent.append(("RPUSH", reply_to, *values))
            self._unsent.append(("PEXPIRE", reply_to, keys.REPLIES_LIFE))
        self._forget(promised)
        self._unsent.append(("XDEL", self._stream, *positions))
        self.forgive()
        self._push()

    def _forget(self, promised: Iterable[ids.ChangeId]) -> None:
        named = [str(change) for change in promised]
        if named:
            self._unsent.append(("HDEL", keys.inbox(self._tenant), *named))

    def forgive(self) -> None:
        """Count no death: the attempt ended, well or not, with its process alive."""
        self._unsent.append(("HDEL", self._attempts, "deaths"))

    def begin_attempt(self) -> None:
        """Count one attempt at the rest of the entry at the head: all before it in it is done for good."""
        with connections.wrapped():
            self._send(self._note("HSET", "deaths", 1))

    def suspect(self, until: str) -> None:
        """Note that every entry up to `until` is to be applied alone, also by a successor."""
        self._unsent.append(self._note("HSET", "until", until))

    def _note(self, command: str, *values: Any) -> lines.Command:
        """Make the command that writes down how the attempts stand."""
        return command, self._attempts, *values

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
        names = (self._stream, self._wake, keys.PENDING, self._attempts)
        with connections.wrapped():
            *_, given_up = self._send(("EVAL", GIVE_UP, len(names), *names, self._tenant, self._owner))
        return bool(given_up)

    def discard(self) -> None:
        """Drop the stream of a tenant that is gone; nothing in it was acknowledged."""
        with connections.wrapped():
            names = (self._stream, self._wake, self._attempts, keys.inbox(self._tenant))
            self._send(("DEL", *names), ("SREM", keys.PENDING, self._tenant))

    def hand_over(self, life: int) -> None:
        """Mark the wake as queued for `life` milliseconds: another drain is on its way."""
        with connections.wrapped():
            self._send()
            self._hold(keys=[self._wake], args=[self._owner, "queued", life])

    def close(self) -> None:
        """Give the connection back; what was not sent by then is never sent."""
        self._line.close()

    def _push(self) -> None:
        """Send what waits, and don't wait for the answers."""
        sent, self._unsent = self._unsent, []
        self._unconfirmed += sent
        try:
            self._line.send(sent, idle=True)
        except redis.RedisError as exc:
            log.warning("settle.unsent", error=type(exc).__name__)
            self._take_back()

    def _send(self, *commands: lines.Command) -> list[Any]:
        """Send what waits and the commands; return the answers to all that was sent and not yet answered."""
        try:
            if self._unsent or commands:
                self._line.send([*self._unsent, *commands], idle=True)
                self._unconfirmed += self._unsent
                self._unsent = []
            answers = self._line.receive()
        except redis.RedisError:
            self._take_back()
            raise
        self._unconfirmed = []
        return answers

    def _take_back(self) -> None:
        # Nothing is lost: settling again is harmless, and the change log knows what was applied.
        self._unsent = [*self._unconfirmed, *self._unsent]
        self._unconfirmed = []


class BareTail(Tail):
    """The drain's end while Valkey has no memory left: it reads and removes, and asks for little more.

    No wake is held: the tenant's epoch keeps others from committing. Attempts are counted all the same, or a
    change that kills its worker would kill whoever drains like this, again and again.
    """

    def open(self) -> tuple[int, str | None]:
        """Tell the attempts that died at the head, and the end of suspicion; take nothing over."""
        with connections.wrapped():
            deaths, until = self._client.hmget(self._attempts, "deaths", "until")
        return int(deaths or 0), until.decode() if until else None  # type: ignore[union-attr]

    def take(self, count: int, *, block: float) -> Taken:
        """Read up to `count` entries from the head, without waiting."""
        with connections.wrapped():
            *_, entries, _ = self._send(
                ("XRANGE", self._stream, "-", "+", "COUNT", count), self._note("HINCRBY", "deaths", 1)
            )
        if not entries:
            self.forgive()
        return Taken([(position.decode(), fields[1]) for position, fields in entries], others_wait=True)

    def settle(
        self,
        positions: Iterable[str],
        replies: Iterable[tuple[str, bytes]],
        promised: Iterable[ids.ChangeId] = (),
    ) -> None:
        """Remove the entries at once, then answer as far as there is room: the change log tells the rest."""
        self._forget(promised)
        self.forgive()
        with connections.wrapped():
            self._send(("XDEL", self._stream, *positions))
            with contextlib.suppress(redis.exceptions.OutOfMemoryError):
                for reply_to, data in replies:
                    self._client.rpush(reply_to, data)
                    self._client.pexpire(reply_to, keys.REPLIES_LIFE)

    def _note(self, command: str, *values: Any) -> lines.Command:
        return "EVAL", NOTE, 1, self._attempts, command, *values

    def renew(self) -> bool:
        """Hold nothing, so there is nothing to lose."""
        return True

    def give_up(self) -> bool:
        """Let go of nothing; whether something is left is for the next round to see."""
        self._send()
        return True

    def hand_over(self, life: int) -> None:
        """Hand nothing over."""


def _pairs(streams: Any) -> list[tuple[bytes, list[Any]]]:
    """Read XREAD's answer, which RESP2 gives as a list and RESP3 as a map."""
    if not streams:
        return []
    return list(streams.items()) if isinstance(streams, dict) else [(name, items) for name, items in streams]
