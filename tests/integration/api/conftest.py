"""A whole Usher for the tests of the api: one stack a module, one tenant a test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx
import psycopg
import pytest
import redis

from usher_core.store import migrations
from usher_core.testing import servers, stacks


@pytest.fixture(scope="module")
def stack(
    running: servers.Servers, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[stacks.Stack]:
    """Api and worker on a database and a Valkey number of their own."""
    name = "usher_api_tests"
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {migrations.OWNER}".encode())
    url = running.database.app.rpartition("/")[0] + "/" + name
    redis_url = running.redis_url.rpartition("/")[0] + "/15"
    redis.Redis.from_url(redis_url).flushdb()
    folder = tmp_path_factory.mktemp("api")
    with stacks.Stack(url, redis_url, folder, {"USHER_LOG_LEVEL": "info"}) as started:
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
