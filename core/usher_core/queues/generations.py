"""Which life of Valkey the streams belong to: without its mark nothing is appended.

Valkey may come back empty, or without its last second. What was promised before then stands in PostgreSQL
and goes back into the streams first: younger changes must not overtake it. The mark is the run id of the
server: after a restart, and on another server after a failover, it is another's. Whoever puts the promised
changes back sets it; while none is promised anybody may.
"""

from __future__ import annotations

import redis
import redis.asyncio

from usher_core.queues import connections, keys


async def current(client: redis.asyncio.Redis) -> tuple[str, bool]:
    """Tell the run id of the server, and whether the streams belong to it.

    Raises:
        QueueUnavailable: Valkey is away.
    """
    with connections.wrapped():
        pipe = client.pipeline(transaction=False)
        pipe.info("server")
        pipe.get(keys.GENERATION)
        server, mark = await pipe.execute()
    run_id = str(server["run_id"])
    return run_id, mark == run_id.encode()


async def begin(client: redis.asyncio.Redis, run_id: str) -> None:
    """Mark the streams as the server's; only when no change is promised that they lack.

    Raises:
        QueueUnavailable: Valkey is away or full.
    """
    with connections.wrapped():
        await client.set(keys.GENERATION, run_id)
