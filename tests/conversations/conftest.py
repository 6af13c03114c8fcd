"""A whole Usher for the conversations: one stack for all of them, one tenant a conversation."""

from __future__ import annotations

from collections.abc import Iterator

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
    name = "usher_conversation_tests"
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {migrations.OWNER}".encode())
    url = running.database.app.rpartition("/")[0] + "/" + name
    redis_url = running.redis_url.rpartition("/")[0] + "/15"
    redis.Redis.from_url(redis_url).flushdb()
    with stacks.Stack(url, redis_url, tmp_path_factory.mktemp("conversations")) as started:
        yield started


@pytest.fixture
async def acme(stack: stacks.Stack) -> stacks.Access:
    """A tenant of this conversation's own."""
    return await stack.make_tenant()
