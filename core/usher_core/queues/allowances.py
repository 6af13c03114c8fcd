"""How often a tenant may read: one limit for the whole cluster, asked for in small advances.

Reads need PostgreSQL alone, so a queue that is away limits nobody. An api process takes an advance of a
twentieth of a second's reads from the tenant's bucket, and asks again when it is used up or a second old. Of
its reads that come at once one asks and the others wait for its answer: none is refused while there is one
left, and a refusal is asked for once.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time

import redis.asyncio

from usher_core import errors, ids
from usher_core.queues import appends, connections, keys

# KEYS: bucket. ARGV: rate, wanted. Answers: what is granted; or minus the milliseconds until there is one.
TAKE = """
local rate, wanted = tonumber(ARGV[1]), tonumber(ARGV[2])
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local bucket = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens = tonumber(bucket[1] or rate) + (now - tonumber(bucket[2] or now)) * rate / 1000
tokens = math.min(rate, tokens)
local granted = math.min(wanted, math.floor(tokens))
redis.call('HSET', KEYS[1], 'tokens', tokens - granted, 'at', now)
redis.call('PEXPIRE', KEYS[1], 60000)
if granted > 0 then return granted end
return -math.ceil((1 - tokens) * 1000 / rate)
"""

ADVANCES_A_SECOND = 20
LIFE = 1.0
"""An advance is good for so many seconds: what a process does not use it can't save up."""

CAPACITY = 10_000


@dataclasses.dataclass(slots=True)
class _Advance:
    """What is left of a tenant's advance and until when it is good, or until when there is none to be had."""

    left: int = 0
    until: float = 0.0
    none_before: float = 0.0
    asking: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)

    def spend(self) -> bool:
        """Spend one read; `False` when the bucket has to be asked.

        Raises:
            RateExceeded: it was asked, and has none yet.
        """
        now = time.monotonic()
        if now < self.none_before:
            raise appends.RateExceeded(self.none_before - now)
        if self.left <= 0 or now > self.until:
            return False
        self.left -= 1
        return True


class Allowances:
    """The advances of one api process; one an event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._take = client.register_script(TAKE)
        self._advances: dict[ids.TenantId, _Advance] = {}
        self._away_until = 0.0

    async def spend(self, tenant: ids.TenantId, per_second: int) -> None:
        """Spend one read of a tenant's; `per_second` is its rate, 0 for none.

        Raises:
            RateExceeded: it has none left; says when there is one.
        """
        if per_second <= 0 or self._is_away():
            return
        advance = self._advance_of(tenant)
        if advance.spend():
            return
        async with advance.asking:
            # Whoever asked before may have been given enough for all that wait here.
            if not self._is_away() and not advance.spend():
                await self._ask(tenant, per_second, advance)

    def _is_away(self) -> bool:
        """Tell whether the queue was away when it was asked last: nobody is limited, and nobody else asks."""
        return time.monotonic() < self._away_until

    def _advance_of(self, tenant: ids.TenantId) -> _Advance:
        advance = self._advances.get(tenant)
        if advance is None:
            if len(self._advances) >= CAPACITY:
                self._advances.clear()
            advance = self._advances[tenant] = _Advance()
        return advance

    async def _ask(self, tenant: ids.TenantId, per_second: int, advance: _Advance) -> None:
        """Take an advance, and spend its first read."""
        if self._away_until:
            # Whether it is back is this read's to find out; no other one waits for that.
            self._away_until = time.monotonic() + connections.SOCKET_TIMEOUT
        wanted = max(1, per_second // ADVANCES_A_SECOND)
        try:
            with connections.wrapped():
                granted = int(
                    await self._take(keys=[keys.bucket(tenant, "reads")], args=[per_second, wanted])
                )
        except errors.QueueUnavailable:
            self._away_until = time.monotonic() + LIFE
            return
        self._away_until, now = 0.0, time.monotonic()
        if granted < 0:
            advance.none_before = now - granted / 1000
            raise appends.RateExceeded(-granted / 1000)
        advance.left, advance.until = granted - 1, now + LIFE
