"""The sweep's side of the store: one sweeper at a time, the log's partitions, and what was promised."""

from __future__ import annotations

import contextlib
import datetime
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import psycopg
from psycopg.rows import TupleRow

from usher_core import ids
from usher_core.store import databases

TIMEOUT = 10.0

Position = tuple[uuid.UUID, int]
"""A place among all promised changes: behind a tenant's change of that number."""

START: Position = (uuid.UUID(int=0), 0)


class Promised(NamedTuple):
    """A change that waits for its turn and must not be lost with the queue."""

    tenant: ids.TenantId
    number: int
    change_id: ids.ChangeId

    @property
    def position(self) -> Position:
        """Where it stands among all."""
        return self.tenant, self.number


# Taken for a transaction, never for a session: it frees itself with its holder, also behind PgBouncer.
LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('usher_sweep'))"
KEEP = "SELECT usher_keep_change_log(%s)"
DROP = "SELECT usher_drop_change_log(%s)"
# A worker never lets its transaction wait for it. PostgreSQL's own time-out for that does not run in the
# middle of a pipeline, so a worker that was stopped there would hold its tenant's lock until it wakes.
FREE = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
 WHERE application_name = 'usher-worker' AND usename = session_user AND datname = current_database()
   AND state IN ('active', 'idle in transaction') AND wait_event = 'ClientRead'
   AND greatest(xact_start, state_change) < clock_timestamp() - make_interval(secs => %s)
"""
STOPPED_AFTER = 2.0
PURGE = "SELECT usher_purge_deleted(%s)"
PURGE_AT_ONCE = 1000
PROMISED = "SELECT tenant, number, change_id FROM usher_inbox(%s, %s, %s, %s)"
PROMISED_AT_ONCE = 1000
ENTRY = "SELECT entry FROM inbox WHERE tenant = %s AND change_id = %s"


class Sweeps:
    """A synchronous connection for the sweep; it connects at first use and again after a loss."""

    def __init__(self, url: str) -> None:
        self._conninfo = databases.conninfo(url, statement_timeout=TIMEOUT, application="usher-sweep")
        self._connection: psycopg.Connection[TupleRow] | None = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[bool]:
        """Try to be the one sweeper for as long as the body runs; yields whether it is our turn.

        Raises:
            StoreUnavailable: PostgreSQL is away.
        """
        with databases.wrapped():
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(self._conninfo, autocommit=True)
            connection = self._connection
            try:
                with connection.transaction():
                    row = connection.execute(LOCK).fetchone()
                    yield row is not None and bool(row[0])
            except psycopg.Error:
                connection.close()
                raise

    def keep_change_log(self, now: datetime.datetime, *, months: int) -> tuple[int, int]:
        """Make the partitions of this month and the next, drop those older than `months`.

        Call it within a turn. Returns how many were made and how many were dropped.
        """
        assert self._connection is not None  # noqa: S101 - within a turn there is one
        made = 0
        for moment in (now, _later(now, 1)):
            row = self._connection.execute(KEEP, (moment,)).fetchone()
            made += bool(row and row[0])
        row = self._connection.execute(DROP, (_later(now, -months),)).fetchone()
        return made, int(row[0]) if row else 0

    def free_stopped(self) -> int:
        """End the transactions of workers that have not gone on with them for two seconds.

        Call it within a turn. Returns how many were ended; whoever they belonged to commits nothing.
        """
        assert self._connection is not None  # noqa: S101 - within a turn there is one
        row = self._connection.execute(FREE, (STOPPED_AFTER,)).fetchone()
        return int(row[0]) if row else 0

    def purge_deleted(self) -> int:
        """Purge some of the deleted users that are older than their tenants keep them.

        Call it within a turn, and again at the next one: a turn is short. Returns how many are gone for good.
        """
        assert self._connection is not None  # noqa: S101 - within a turn there is one
        row = self._connection.execute(PURGE, (PURGE_AT_ONCE,)).fetchone()
        return int(row[0]) if row else 0

    def promised(self, before: datetime.datetime, after: Position) -> list[Promised]:
        """List promised changes accepted before then, by tenant and number; those behind a position.

        Call it within a turn. A page holds at most `PROMISED_AT_ONCE`.
        """
        assert self._connection is not None  # noqa: S101 - within a turn there is one
        cursor = self._connection.execute(PROMISED, (before, *after, PROMISED_AT_ONCE))
        return [Promised(*row) for row in cursor.fetchall()]

    def entry(self, promised: Promised) -> bytes | None:
        """Read what of a promised change stands in the stream; `None` if its turn has come meanwhile.

        Call it within a turn.
        """
        assert self._connection is not None  # noqa: S101 - within a turn there is one
        self._connection.execute(*databases.set_tenant(promised.tenant))
        row = self._connection.execute(ENTRY, (promised.tenant, promised.change_id)).fetchone()
        return None if row is None else bytes(row[0])

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()


def _later(moment: datetime.datetime, months: int) -> datetime.datetime:
    """Move to the first day of a later (or earlier) month."""
    count = moment.year * 12 + moment.month - 1 + months
    return moment.replace(year=count // 12, month=count % 12 + 1, day=1)
