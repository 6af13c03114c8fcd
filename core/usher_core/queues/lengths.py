"""How many changes of each tenant wait in the streams; the operator asks, for the tenants' statuses."""

from __future__ import annotations

import uuid

import redis.asyncio

from usher_core import ids
from usher_core.queues import connections, keys


async def pending(client: redis.asyncio.Redis) -> dict[ids.TenantId, int]:
    """Count the pending changes of the tenants that have some, in two round trips.

    Raises:
        QueueUnavailable: Valkey is away.
    """
    with connections.wrapped():
        members = [
            member.decode() for member in await client.smembers(keys.PENDING) if isinstance(member, bytes)
        ]
        pipe = client.pipeline(transaction=False)
        for tenant in members:
            pipe.xlen(keys.changes(tenant))
        lengths = await pipe.execute() if members else []
    counted = zip(members, lengths, strict=True)
    return {ids.TenantId(uuid.UUID(tenant)): int(length) for tenant, length in counted if length}
