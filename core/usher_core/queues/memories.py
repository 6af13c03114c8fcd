"""How full Valkey is: the api takes nothing more on while there is room left to work off what it took on."""

from __future__ import annotations

import asyncio

import redis.asyncio
import structlog

from usher_core import errors
from usher_core.queues import connections

log = structlog.get_logger(__name__)

EVERY = 1.0

ADMITTED = 0.7
"""Up to this part of its memory Valkey may be filled with changes. The rest is for what works them off."""


class Memory:
    """Looks at the server every second; one an event loop."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._client = client
        self.used = 0.0
        """The part of the server's memory that is used; 0 where it has no limit."""

    @property
    def is_short(self) -> bool:
        """Whether nothing more should be taken on, but for revocations."""
        return self.used > ADMITTED

    async def run(self) -> None:
        """Look again and again, until cancelled; while the server is away the last look counts."""
        while True:
            try:
                await self.look()
            except errors.QueueUnavailable as exc:
                log.debug("memory.unknown", error=str(exc))
            await asyncio.sleep(EVERY)

    async def look(self) -> None:
        """Look once.

        Raises:
            QueueUnavailable: Valkey is away.
        """
        with connections.wrapped():
            told = await self._client.info("memory")
        most = int(told.get("maxmemory") or 0)
        self.used = int(told["used_memory"]) / most if most else 0.0
