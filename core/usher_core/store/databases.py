"""The asynchronous connections to PostgreSQL, for the api and the operator.

A `Database` hands out one transaction at a time, sent as one pipeline: the statements of a transaction
cost one round trip together. Each transaction that touches a tenant's rows names the tenant first.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import Any, LiteralString

import orjson
import psycopg
import psycopg_pool
from psycopg.rows import TupleRow
from psycopg.types.json import set_json_dumps, set_json_loads

from usher_core import errors, ids

set_json_loads(orjson.loads)
set_json_dumps(orjson.dumps)

Statement = tuple[LiteralString | str, Sequence[Any]]

TERM_IS_OVER = "UO001"
"""The SQLSTATE of `usher_insist_on_term`."""

# A serving connection acts as the role without rights of its own, whoever logged in.
APP_OPTIONS = "-c role=usher_app -c idle_in_transaction_session_timeout=2000"


PASSING = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,  # a server that became read-only in a failover says it so
    psycopg_pool.PoolTimeout,
    psycopg_pool.PoolClosed,
)


class wrapped:  # noqa: N801 - it is used like a function; as a generator it would cost three times as much
    """Turn the driver's passing failures into `StoreUnavailable`; leave mistakes of ours as they are."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        if raised is None:
            return
        if isinstance(raised, psycopg.errors.QueryCanceled):
            raise errors.StoreTimedOut("PostgreSQL: a statement took too long") from raised
        if isinstance(raised, PASSING):
            raise errors.StoreUnavailable(f"PostgreSQL: {type(raised).__name__}") from raised
        if isinstance(raised, psycopg.DatabaseError) and raised.sqlstate == TERM_IS_OVER:
            raise errors.OperatorSuperseded("another operator has taken over") from raised


def conninfo(url: str, *, statement_timeout: float, application: str) -> str:
    """Complete a URL with what every serving connection needs; `statement_timeout` in seconds."""
    return psycopg.conninfo.make_conninfo(
        url,
        options=f"{APP_OPTIONS} -c statement_timeout={int(statement_timeout * 1000)}",
        application_name=application,
        connect_timeout=3,
        tcp_user_timeout=10_000,
    )


class Database:
    """A pool of asynchronous connections as the role usher_app.

    `guard` is a statement with which each transaction begins, and that may refuse it.
    """

    def __init__(
        self, url: str, *, application: str = "usher", pool_size: int = 8, statement_timeout: float = 5.0
    ) -> None:
        self.guard: Statement | None = None
        self._pool = psycopg_pool.AsyncConnectionPool(
            conninfo(url, statement_timeout=statement_timeout, application=application),
            min_size=1,
            max_size=pool_size,
            timeout=2.0,
            reconnect_timeout=5.0,
            kwargs={"autocommit": True},
            check=None,
            open=False,
            name=application,
        )

    async def open(self) -> None:
        """Start the pool without waiting for PostgreSQL: an api may start before its store."""
        await self._pool.open(wait=False)

    async def close(self) -> None:
        """Close every connection."""
        await self._pool.close(timeout=2.0)

    async def __aenter__(self) -> Database:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def fetch(self, tenant: ids.TenantId | None, *statements: Statement) -> list[list[TupleRow]]:
        """Run the statements in one transaction and one round trip; return the rows of each, in order.

        Raises:
            StoreUnavailable: PostgreSQL is away, or a statement took longer than the time-out.
        """
        with wrapped():
            guarded = statements if self.guard is None else (self.guard, *statements)
            skipped = len(guarded) - len(statements)
            async with self._pool.connection() as connection:
                try:
                    return (await _run(connection, tenant, guarded))[skipped:]
                except psycopg.OperationalError:
                    # A connection that died while it lay in the pool says nothing about the server.
                    if not connection.broken:
                        raise
            async with self._pool.connection() as connection:
                return (await _run(connection, tenant, guarded))[skipped:]

    @contextlib.asynccontextmanager
    async def transaction(self, tenant: ids.TenantId) -> AsyncIterator[psycopg.AsyncConnection[TupleRow]]:
        """Open a transaction of one tenant for statements that depend on each other; commit at its end."""
        with wrapped():
            async with self._pool.connection() as connection, connection.transaction():
                await connection.execute(*set_tenant(tenant))
                if self.guard is not None:
                    text, values = self.guard
                    await connection.execute(text.encode(), values)
                yield connection


def set_tenant(tenant: ids.TenantId) -> tuple[LiteralString, tuple[str]]:
    """Make the statement that names the tenant for the rest of the transaction."""
    return "SELECT set_config('usher.tenant', %s, true)", (str(tenant),)


async def _run(
    connection: psycopg.AsyncConnection[TupleRow],
    tenant: ids.TenantId | None,
    statements: Sequence[Statement],
) -> list[list[TupleRow]]:
    if tenant is None and len(statements) == 1:
        # It is a transaction by itself: whoever asks on the way of a request waits for no more than it must.
        [(text, values)] = statements
        cursor = await connection.execute(text, values)
        return [await cursor.fetchall() if cursor.description else []]
    cursors = []
    async with connection.pipeline():
        await connection.execute("BEGIN")
        if tenant is not None:
            await connection.execute(*set_tenant(tenant))
        cursors.extend([await connection.execute(text, values) for text, values in statements])
        await connection.execute("COMMIT")
    return [await cursor.fetchall() if cursor.description else [] for cursor in cursors]
