"""The terms of operators: each begins one, and from then on the store refuses what an older one would write.

The operator calls `Term.ensure` before it works. Invariant: of two operators, whatever they believe of
themselves, at most one can write; a transaction that has begun is over before the next term begins.
"""

from __future__ import annotations

import asyncio

import structlog

from usher_core.store import databases

APPLICATION = "usher-operator"

log = structlog.get_logger(__name__)

# An operator that was stopped in the middle of a pipeline would keep its successor waiting for its lock.
FREE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE application_name = %s AND usename = session_user AND datname = current_database()
   AND pid <> pg_backend_pid() AND state IN ('active', 'idle in transaction') AND wait_event = 'ClientRead'
   AND greatest(xact_start, state_change) < clock_timestamp() - interval '2 seconds'
"""
BEGIN = "SELECT usher_begin_term(%s)"
INSIST = "SELECT usher_insist_on_term(%s)"


class Term:
    """The term of one operator's process: begun at its first use, and never a second time."""

    def __init__(self, database: databases.Database, holder: str) -> None:
        self._database = database
        self._holder = holder
        self._lock = asyncio.Lock()
        self.number: int | None = None

    async def ensure(self) -> None:
        """Begin the term, unless that was done; from then on each transaction insists on it.

        Raises:
            StoreUnavailable: PostgreSQL is away, or an older operator has not let go yet: try again.
        """
        async with self._lock:
            if self.number is not None:
                return
            await self._database.fetch(None, (FREE, (APPLICATION,)))
            [[(number,)]] = await self._database.fetch(None, (BEGIN, (self._holder,)))
            self._database.guard = (INSIST, (number,))
            self.number = int(number)
            log.info("operator's term begins", term=self.number, holder=self._holder)
