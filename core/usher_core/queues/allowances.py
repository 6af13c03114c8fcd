"""How often a tenant may read: one limit for the whole cluster, asked for in small advances.

Reads need PostgreSQL alone, so a queue that is away limits nobody. An api process takes an advance of a
twentieth of a second's reads from the tenant's bucket, and asks again when it is used up or a second old.
"""

from __future__ import annotations

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


class Allowances:
    """The advances of one api process; one an event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._take = client.register_script(TAKE)
        self._held: dict[ids.TenantId, tuple[int, float]] = {}

    async def spend(self, tenant: ids.TenantId, per_second: int) -> None:
        """Spend one read of a tenant's; `per_second` is its rate, 0 for none.

        Raises:
            RateExceeded: it has none left; says when there is one.
        """
        if per_second <= 0:
            return
        left, until = self._held.get(tenant, (0, 0.0))
        if left <= 0 or time.monotonic() > until:
            left = await self._advance(tenant, per_second)
            until = time.monotonic() + LIFE
        if len(self._held) >= CAPACITY:
            self._held.clear()
        self._held[tenant] = left - 1, until

    async def _advance(self, tenant: ids.TenantId, per_second: int) -> int:
        wanted = max(1, per_second // ADVANCES_A_SECOND)
        try:
            with connections.wrapped():
                granted = int(
                    await self._take(keys=[keys.bucket(tenant, "reads")], args=[per_second, wanted])
                )
        except errors.QueueUnavailable:
            return wanted
        if granted < 0:
            raise appends.RateExceeded(-granted / 1000)
        return granted
