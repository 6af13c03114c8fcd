"""The api's end of every stream: what is appended, refused or recognised, in one step for a tenant.

The order of defence is the script's: the tenant's rate, its most pending changes, the age of its oldest
one, the memory that is left. What is urgent, a revocation, is charged for and never refused. Nothing is
appended to a stream whose generation is not the server's (`generations`).
"""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import redis
import redis.asyncio
import redis.exceptions

from usher_core import errors, ids
from usher_core.queues import connections, generations, keys, lines

# KEYS: stream, wake, pending, generation, inbox, bucket, and one for each entry's request, if it has any.
# ARGV: tenant, life of a wake, oldest, most pending, rate, generation, life of a request's mark, whether
# memory is short; then for each entry: data, urgent, promised, mark, cost. An entry without data is only
# charged for.
# Answers: whether the wake was claimed; then for each entry an empty text, or why it was not appended.
APPEND = """
if redis.call('GET', KEYS[4]) ~= ARGV[6] then return false end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local head = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1]
local late = head and now - tonumber(string.match(head[1], '^%d+')) > tonumber(ARGV[3])
local most, rate, tokens, pending = tonumber(ARGV[4]), tonumber(ARGV[5]), 0, 0
if most > 0 then pending = redis.call('XLEN', KEYS[1]) end
if rate > 0 then
  local bucket = redis.call('HMGET', KEYS[6], 'tokens', 'at')
  tokens = tonumber(bucket[1] or rate) + (now - tonumber(bucket[2] or now)) * rate / 1000
  tokens = math.min(rate, tokens)
end
local answers, added, request = {0}, false, 6
for at = 9, #ARGV, 5 do
  local urgent, mark, cost = ARGV[at + 1] == '1', ARGV[at + 3], tonumber(ARGV[at + 4])
  local answer = ''
  if mark ~= '' then
    request = request + 1
    local seen = string.sub(mark, 1, 1) ~= '!' and redis.call('GET', KEYS[request])
    if seen then answer = 'seen ' .. seen end
  end
  if answer == '' and not urgent then
    if rate > 0 and tokens < math.min(cost, rate) then
      answer = 'rate ' .. math.ceil((math.min(cost, rate) - tokens) * 1000 / rate)
    elseif most > 0 and pending >= most then
      answer = 'pending'
    elseif late then
      answer = 'late'
    elseif ARGV[8] == '1' then
      answer = 'short'
    end
  end
  if answer == '' then
    -- A debt is paid whole, but what is never refused may add to it only up to ten seconds' worth.
    tokens = urgent and math.max(tokens - cost, math.min(tokens, -10 * rate)) or tokens - cost
    pending = pending + 1
    if ARGV[at] ~= '' then
      local position = redis.call('XADD', KEYS[1], '*', 'c', ARGV[at])
      if ARGV[at + 2] ~= '' then redis.call('HSET', KEYS[5], ARGV[at + 2], position) end
      if mark ~= '' then
        redis.call('SET', KEYS[request], (string.gsub(mark, '^!', '')), 'PX', ARGV[7])
      end
      added = true
    end
  end
  answers[#answers + 1] = answer
end
if rate > 0 then
  redis.call('HSET', KEYS[6], 'tokens', tokens, 'at', now)
  -- One that is full again is like none.
  redis.call('PEXPIRE', KEYS[6], math.max(60000, math.ceil((rate - tokens) * 1000 / rate)))
end
if added then
  redis.call('SADD', KEYS[3], ARGV[1])
  if redis.call('SET', KEYS[2], 'queued', 'NX', 'PX', ARGV[2]) then answers[1] = 1 end
end
return answers
"""

# A wake is taken back only while no drain has made it its own.
RELEASE = "if redis.call('GET', KEYS[1]) == 'queued' then redis.call('DEL', KEYS[1]) end"


class Backlogged(errors.UsherError):
    """The tenant's oldest pending change is older than a request waits: one more would only wait too."""


class TooManyPending(errors.UsherError):
    """The tenant has as many pending changes as its manifest allows."""


class RateExceeded(errors.UsherError):
    """The tenant writes more often than its manifest allows; there is room after `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the rate is exceeded for {seconds} s")
        self.seconds = seconds


class Seen(errors.UsherError):
    """The same request was seen before; `mark` says what became of it."""

    def __init__(self, mark: str) -> None:
        super().__init__("the request was seen before")
        self.mark = mark


class GenerationLost(errors.UsherError):
    """The server lost what it held: promised changes must go back into the streams first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may do: writes a second and pending changes; 0 is without end."""

    per_second: int = 0
    most_pending: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Item:
    """What to append; without data it is only charged for.

    `request` is the key by which a retry finds its first try, `mark` what stands there; one that begins with
    an exclamation mark replaces what is there already.
    """

    data: bytes
    urgent: bool = False
    promised: ids.ChangeId | None = None
    request: str = ""
    mark: str = ""
    cost: int = 1


_Waiting = tuple[Item, asyncio.Future[bool]]

# Changes in one command: each may be a megabyte.
MOST_AT_ONCE = 128

NO_LIMITS = Limits()


class Appender:
    """Appends to the streams of all tenants; one an event loop.

    What concurrent requests append while a command is under way goes out together in the next one.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        nothing_promised: Callable[[], Awaitable[bool]],
        *,
        oldest: float,
        is_short: Callable[[], bool] = lambda: False,
    ) -> None:
        """`nothing_promised`: tells whether no change is promised, so that a server can be made ours.

        `oldest`: the age in seconds of the oldest pending change beyond which none is added. `is_short`:
        tells whether the server's memory is used up but for what is urgent.
        """
        self._client = client
        self._line = lines.AsyncLine(client)
        self._nothing_promised = nothing_promised
        # A text of our own: no other process has taught it to the server, so a server that doesn't know it
        # has restarted, or is another one, since we did.
        self._text = f"-- {uuid.uuid4().hex}\n{APPEND}"
        self._digest = hashlib.sha1(self._text.encode()).hexdigest()  # noqa: S324 - the server's name for it
        self._generation: str | None = None
        self._release = client.register_script(RELEASE)
        self._oldest = int(oldest * 1000)
        self._is_short = is_short
        self._waiting: dict[ids.TenantId, list[_Waiting]] = {}
        self._limits: dict[ids.TenantId, Limits] = {}
        self._sender: asyncio.Task[None] | None = None

    async def append(self, tenant: ids.TenantId, item: Item, limits: Limits = NO_LIMITS) -> bool:
        """Append a change; tells whether the caller must enqueue a drain for the tenant.

        Raises:
            Backlogged, TooManyPending, RateExceeded, QueueFull, Seen, GenerationLost: it was not appended.
            StoreUnavailable: the server is new, and whether changes are promised can't be asked.
            QueueUnavailable: the change may have been appended, or not.
        """
        appended: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, []).append((item, appended))
        self._limits[tenant] = limits
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
                limits = self._limits.pop(tenant)
                if rest:
                    self._waiting[tenant], self._limits[tenant] = rest, limits
                try:
                    await self._send_batch(tenant, batch, limits)
                except errors.UsherError as exc:
                    # What is away for one is away for all: nobody waits for another's time-out.
                    for one in (batch, *self._waiting.values()):
                        _refuse(one, exc)
                    self._waiting.clear()
                    self._limits.clear()
        finally:
            self._sender = None

    async def _send_batch(self, tenant: ids.TenantId, batch: list[_Waiting], limits: Limits) -> None:
        try:
            answers = await self._run(tenant, [item for item, _ in batch], limits)
        except errors.UsherError:
            raise
        except Exception as exc:
            # Every request gets its answer, whatever broke in the client or the event loop.
            raise errors.QueueUnavailable(f"Valkey: {type(exc).__name__}") from exc
        must_wake = answers[0] == 1
        for (_, appended), answer in zip(batch, answers[1:], strict=True):
            if appended.done():  # its request was cancelled
                continue
            if answer:
                appended.set_exception(_refusal(tenant, answer.decode()))
            else:
                appended.set_result(must_wake)
                must_wake = False

    async def _run(self, tenant: ids.TenantId, items: list[Item], limits: Limits) -> list[Any]:
        named = str(tenant)
        names = [
            keys.changes(named),
            keys.wake(named),
            keys.PENDING,
            keys.GENERATION,
            keys.inbox(named),
            keys.bucket(named, "writes"),
            *(item.request for item in items if item.request),
        ]
        settled = (named, keys.WAKE_QUEUED, self._oldest, limits.most_pending, limits.per_second)
        entries = [
            part
            for item in items
            for part in (item.data, int(item.urgent), str(item.promised or ""), item.mark, item.cost)
        ]
        for _ in range(2):
            generation = self._generation or await self._begin()
            values = (*settled, generation, keys.REQUEST_LIFE, int(self._is_short()), *entries)
            try:
                with connections.wrapped():
                    answers = await self._line.ask("EVALSHA", self._digest, len(names), *names, *values)
            except errors.QueueUnavailable as exc:
                self._generation = None
                if isinstance(exc.__cause__, redis.exceptions.NoScriptError):
                    continue
                raise
            if answers is not None:
                return answers  # type: ignore[no-any-return]
            self._generation = None
        raise GenerationLost("the streams' generation is not the server's")

    async def _begin(self) -> str:
        """Learn which life of the server this is, and teach it the script for as long as it lasts."""
        run_id, ours = await generations.current(self._client)
        if not ours:
            if not await self._nothing_promised():
                raise GenerationLost("promised changes are not back in the streams yet")
            await generations.begin(self._client, run_id)
        with connections.wrapped():
            await self._client.script_load(self._text)
        self._generation = run_id
        return run_id


def _refusal(tenant: ids.TenantId, answer: str) -> errors.UsherError:
    reason, _, rest = answer.partition(" ")
    match reason:
        case "seen":
            return Seen(rest)
        case "rate":
            return RateExceeded(int(rest) / 1000)
        case "pending":
            return TooManyPending(f"tenant {tenant}")
        case "short":
            return errors.QueueFull("Valkey: memory is short")
        case _:
            return Backlogged(f"tenant {tenant}")


def _refuse(batch: list[_Waiting], failure: errors.UsherError) -> None:
    for _, appended in batch:
        if not appended.done():
            appended.set_exception(failure)
