"""Changes for workers without an api: put onto the tenants' streams as the api does, counted in PostgreSQL.

Each change creates a user, whose name is told when it is asked what was applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import NamedTuple

import psycopg

from usher_core import ids
from usher_core.changes import records
from usher_core.queues import appends, connections, jobs
from usher_core.scim import documents, schemas

_USER = schemas.default().by_name("User")
_POLL = 0.02


class Applied(NamedTuple):
    """One applied change."""

    tenant: ids.TenantId
    name: str


class Load:
    """The streams of tenants; `admin_url` is the database as a role that sees every tenant's rows."""

    def __init__(self, admin_url: str, redis_url: str) -> None:
        self.client = connections.connect(redis_url)
        """Valkey, for whoever wants to look at it."""
        self._redis_url = redis_url
        self._admin_url = admin_url

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()

    def make_tenants(self, count: int) -> list[ids.TenantId]:
        """Make so many tenants."""
        made = [ids.TenantId(ids.new_uuid()) for _ in range(count)]
        with psycopg.connect(self._admin_url) as admin:
            for tenant in made:
                values = (tenant, tenant.hex)
                admin.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'load', %s)", values)
                admin.execute("INSERT INTO drains (tenant) VALUES (%s)", (tenant,))
        return made

    def append(self, tenant: ids.TenantId, *names: str) -> None:
        """Append the creation of a user of each name, and wake a drain if nobody did."""
        asyncio.run(self._append(tenant, names))

    def applied(self) -> list[Applied]:
        """List what was applied, in the order of time; a change that was logged twice stands there twice."""
        with psycopg.connect(self._admin_url) as admin:
            rows = admin.execute(
                "SELECT tenant, body->>'userName' FROM change_log WHERE status = 201"
                " ORDER BY applied_at, tenant, stream_id"
            ).fetchall()
        return [Applied(ids.TenantId(uuid.UUID(str(tenant))), str(name)) for tenant, name in rows]

    def wait_until_applied(self, count: int, *, timeout: float = 30.0) -> list[Applied]:
        """Wait until so many changes are applied, and list them.

        Raises:
            TimeoutError: they were not.
        """
        wait_until(lambda: len(self.applied()) >= count, timeout=timeout)
        return self.applied()

    @contextlib.contextmanager
    def held(self, tenant: ids.TenantId) -> Iterator[None]:
        """Hold the lock that each transaction of the tenant takes first: its batch at hand goes on and on."""
        with psycopg.connect(self._admin_url) as admin:
            admin.execute("SELECT FROM drains WHERE tenant = %s FOR UPDATE", (tenant,))
            yield

    def wait_until_held_up(self) -> None:
        """Wait until a worker is in the midst of a batch that is held."""
        query = (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'usher-worker'"
            " AND datname = current_database() AND wait_event_type = 'Lock'"
        )
        with psycopg.connect(self._admin_url, autocommit=True) as admin:
            wait_until(lambda: admin.execute(query).fetchone() == (1,))

    async def _append(self, tenant: ids.TenantId, names: Sequence[str]) -> None:
        async with connections.connect_async(self._redis_url) as client:
            appender = appends.Appender(client, _nothing_promised, oldest=3600)
            items = [appends.Item(_creation(name).encode()) for name in names]
            woken = await asyncio.gather(*(appender.append(tenant, item) for item in items))
        if any(woken):
            jobs.enqueue(jobs.queue(self.client), tenant)


def slices(applied: Sequence[Applied]) -> list[ids.TenantId]:
    """Name the tenant of each run of changes of one and the same tenant."""
    tenants = [one.tenant for one in applied]
    return [one for one, before in zip(tenants, [None, *tenants], strict=False) if one != before]


def wait_until(happened: Callable[[], bool], *, timeout: float = 30.0) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it did not come to be.
    """
    deadline = time.monotonic() + timeout
    while not happened():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s")
        time.sleep(_POLL)


def _creation(name: str) -> records.Change:
    return records.Change(
        ids.ChangeId(ids.new_uuid()),
        records.now(),
        "create",
        "User",
        ids.ResourceId(ids.new_uuid()),
        documents.normalise(_USER, {"userName": name}),
        None,
        "t",
        "r",
        "",
    )


async def _nothing_promised() -> bool:
    return True
