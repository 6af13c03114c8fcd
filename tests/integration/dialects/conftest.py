"""A whole Usher for the dialects of identity providers: one stack a module, one tenant a test."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg
import pytest
import pytest_asyncio
import redis

from usher_core import ids
from usher_core.changes import records
from usher_core.scim import documents, schemas
from usher_core.store import batches, migrations
from usher_core.testing import servers, stacks

DATABASE = "usher_dialect_tests"


@pytest.fixture(scope="module")
def stack(
    running: servers.Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[stacks.Stack]:
    """Api and worker on a database and a Valkey number of their own."""
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {template} OWNER {migrations.OWNER}".encode())
    url = running.database.app.rpartition("/")[0] + "/" + DATABASE
    redis_url = running.redis_url.rpartition("/")[0] + "/15"
    redis.Redis.from_url(redis_url).flushdb()
    folder = tmp_path_factory.mktemp("dialects")
    with stacks.Stack(url, redis_url, folder) as started:
        yield started


@pytest.fixture
async def acme(stack: stacks.Stack) -> stacks.Access:
    """A tenant of this test's own."""
    return await stack.make_tenant()


@pytest.fixture
async def client(acme: stacks.Access) -> AsyncIterator[httpx.AsyncClient]:
    """A client with acme's token."""
    async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers, timeout=40) as opened:
        yield opened


CROWD = 9_000


@dataclasses.dataclass(frozen=True)
class Crowd:
    """A tenant with 9,000 users, `user-0@crowd.example` and so on, in the order of `users`."""

    access: stacks.Access
    users: list[str]
    owner_url: str


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def crowd(running: servers.Servers, stack: stacks.Stack) -> Crowd:
    """The tenant of the tests that need many users; the worker's code wrote them, without the queue.

    No autovacuum comes in between: whether the planner has statistics is each test's to say.
    """
    owner_url = running.database.owner.rpartition("/")[0] + "/" + DATABASE
    with psycopg.connect(owner_url) as owner:
        for table in ("resources", "unique_values", "lookup_values"):
            owner.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)".encode())
    access = await stack.make_tenant("crowd")
    users = await asyncio.to_thread(_fill, stack.database_url, access.tenant)
    return Crowd(access, users, owner_url)


def _fill(url: str, tenant: ids.TenantId) -> list[str]:
    registry = schemas.default()
    kind = registry.by_name("User")
    changes = []
    for number in range(CROWD):
        name = f"user-{number}@crowd.example"
        body = {
            "userName": name,
            "externalId": f"ext-{number}",
            "displayName": f"User {number}",
            "emails": [{"value": name, "type": "work"}],
        }
        change = ids.ChangeId(ids.new_uuid())
        target = ids.ResourceId(ids.new_uuid())
        document = documents.normalise(kind, body)
        changes.append(
            records.Change(change, records.now(), "create", "User", target, document, None, "t", "r", "")
        )
    with batches.Connection(url) as connection:
        epoch = connection.raise_epoch(tenant)
        for start in range(0, CROWD, 500):
            entries = [("1-0", change) for change in changes[start : start + 500]]
            outcomes = connection.apply(tenant, epoch, registry, entries)
            assert {outcome.status for outcome in outcomes} == {201}
    return [str(change.resource_id) for change in changes]
