"""Recognising a client's retry: the same request, of the same token, is the same wish.

Only for POST and DELETE: a PUT or PATCH is simply applied again. A request leaves a mark in Valkey, in the
same step that appends its change. Whoever sends the same again after an answer that arrived means it: Okta's
own test suite creates a user twice and expects a 409. But where the answer was a 503, or the client hung up
before it, or the api process died, the next equal request is a retry. It gets the outcome that the first try
had, if that one succeeded and the resource is still as it left it; it waits for one whose turn is to come.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import hashlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Mapping

import redis.asyncio

from usher_api import refusals
from usher_core import errors, ids
from usher_core.changes import records
from usher_core.queues import appends, connections, keys
from usher_core.store import databases, resources

METHODS = frozenset({"POST", "DELETE"})
HEADERS = ("if-match", "prefer")

GONE = "gone"
WAITING = "waiting"


@dataclasses.dataclass(frozen=True, slots=True)
class Mark:
    """What stands in Valkey of a request: its change, and who waits for it."""

    change_id: ids.ChangeId
    accepted_at: datetime.datetime
    replies: str
    state: str = WAITING

    def encode(self) -> str:
        """Write the mark as text."""
        micros = (self.accepted_at - records.EPOCH) // records.MICROSECOND
        return f"{self.change_id} {micros} {self.replies} {self.state}"

    @classmethod
    def decode(cls, text: str) -> Mark:
        """Read what `encode` wrote."""
        change_id, micros, replies, state = text.split(" ")
        accepted_at = records.EPOCH + int(micros) * records.MICROSECOND
        return cls(ids.ChangeId(uuid.UUID(change_id)), accepted_at, replies, state)


def key(
    secret: bytes,
    tenant: ids.TenantId,
    token_id: ids.TokenId,
    method: str,
    target: bytes,
    headers: Mapping[str, str],
    body: bytes,
) -> str:
    """Name the mark of a request.

    `target` is the path with the query, as it was sent. `secret` is the tenant's own and not in the queue: a
    body may hold a password, and whoever reads the queue must not be able to try guesses against the name.
    """
    # What a header or the target holds is no line feed (RFC 9110 §5.5), so that it keeps neighbours apart.
    texts = "\n".join((token_id, method, *(headers.get(name, "") for name in HEADERS)))
    parts = b"\n".join((texts.encode(), target, body))
    digest = hashlib.blake2b(parts, digest_size=32, key=secret, person=b"usher request")
    return keys.fingerprint(tenant, digest.hexdigest())


def is_still_true(earlier: resources.Earlier) -> bool:
    """Tell whether the outcome of a first try may be given to a retry.

    The resource must be at the version that the first try made, with nothing of it taken away since; a
    deleted one must still be away.
    """
    is_as_it_left_it = earlier.version_now == earlier.outcome.version and not earlier.fenced
    return earlier.outcome.succeeded and is_as_it_left_it


# Only the request that left a mark may say that nobody waits for it any more. Where there is none, Valkey
# never had it, or lost it together with the change: then only a promised change still has its turn. A retry
# that waited for any other would wait in vain, for as long as the mark lives.
LEAVE = """
local mark = redis.call('GET', KEYS[1])
if mark and mark ~= ARGV[1] or not mark and ARGV[4] == '0' then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

# An outcome is given to one retry: the mark says from then on that this one is being answered.
TAKE_OVER = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
"""

LOOK_EVERY = 0.1
SLOW = 0.2
"""A request that has waited so long, in seconds, is worth a look whether its client has hung up."""

ASK_EVERY = 0.2


@dataclasses.dataclass(slots=True, eq=False)
class _Waiter:
    item: appends.Item
    is_gone: Callable[[], bool]
    since: float


class Retries:
    """Finds what became of earlier requests, and notes whose client has gone; one an event loop."""

    def __init__(self, client: redis.asyncio.Redis, database: databases.Database, *, wait: float) -> None:
        """`wait`: how long a retry waits for the outcome of its first try, in seconds."""
        self._client = client
        self._database = database
        self._wait = wait
        self._leave = client.register_script(LEAVE)
        self._take_over = client.register_script(TAKE_OVER)
        self._waiters: set[_Waiter] = set()
        self._somebody_waits = asyncio.Event()

    async def find(self, name: str) -> Mark | None:
        """Look a mark up; `None` where there is none, or the queue is away."""
        if not name:
            return None
        try:
            with connections.wrapped():
                text = await self._client.get(name)
        except errors.QueueUnavailable:
            return None
        return Mark.decode(text.decode()) if isinstance(text, bytes) else None

    async def recall(
        self,
        tenant: ids.TenantId,
        name: str,
        mark: Mark,
        replies: str,
        is_gone: Callable[[], bool] | None,
    ) -> records.Outcome | None:
        """Return the outcome of the first try, if nobody was told it and it holds for a retry; wait for it.

        From then on the mark `name` is this request's, which is answered through `replies`: whoever sends
        the same again means it.

        Raises:
            Unavailable: it did not come in time, or the store is away.
        """
        if mark.state != GONE and await self._is_alive(mark):
            return None
        deadline = time.monotonic() + self._wait
        while True:
            earlier = await resources.find_earlier(self._database, tenant, mark.accepted_at, mark.change_id)
            if earlier is not None:
                break
            if time.monotonic() > deadline:
                raise refusals.late()
            await asyncio.sleep(ASK_EVERY)
        if not is_still_true(earlier):
            return None
        ours = dataclasses.replace(mark, replies=replies, state=WAITING)
        if not await self._becomes(name, mark, ours):
            return None
        if is_gone is not None and is_gone():
            await self._becomes(name, ours, dataclasses.replace(ours, state=GONE))
        return earlier.outcome

    async def _becomes(self, name: str, before: Mark, after: Mark) -> bool:
        life = keys.REQUEST_LATE_LIFE if after.state == GONE else keys.REQUEST_LIFE
        try:
            with connections.wrapped():
                return bool(await self._take_over(keys=[name], args=[before.encode(), after.encode(), life]))
        except errors.QueueUnavailable:
            return True  # better told twice than not at all

    @contextlib.asynccontextmanager
    async def waiting(self, item: appends.Item, is_gone: Callable[[], bool] | None) -> AsyncIterator[None]:
        """Watch over a request while it waits: its client may hang up and try again."""
        if not item.mark or is_gone is None:
            yield
            return
        waiter = _Waiter(item, is_gone, time.monotonic())
        self._waiters.add(waiter)
        self._somebody_waits.set()
        try:
            yield
            if waiter in self._waiters and is_gone():
                await self.leave(item)
        finally:
            self._waiters.discard(waiter)

    async def leave(self, item: appends.Item) -> None:
        """Note that nobody waits for a request any more; its mark then lives for an hour.

        Of a change that Valkey lost before its turn nothing is noted: its retry is a wish of its own.
        """
        if not item.mark:
            return
        mark = item.mark.removeprefix("!")
        gone = dataclasses.replace(Mark.decode(mark), state=GONE).encode()
        with contextlib.suppress(errors.QueueUnavailable), connections.wrapped():
            promised = int(item.promised is not None)
            await self._leave(keys=[item.request], args=[mark, gone, keys.REQUEST_LATE_LIFE, promised])

    async def run(self) -> None:
        """Look again and again whether clients have hung up, until cancelled."""
        while True:
            if not self._waiters:
                self._somebody_waits.clear()
                await self._somebody_waits.wait()
            await asyncio.sleep(LOOK_EVERY)
            long_ago = time.monotonic() - SLOW
            for waiter in [one for one in self._waiters if one.since < long_ago]:
                if waiter.is_gone():
                    self._waiters.discard(waiter)
                    await self.leave(waiter.item)

    async def _is_alive(self, mark: Mark) -> bool:
        try:
            with connections.wrapped():
                return bool(await self._client.exists(keys.alive(mark.replies)))
        except errors.QueueUnavailable:
            return False
