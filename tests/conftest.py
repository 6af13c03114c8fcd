"""Fixtures for every test: real PostgreSQL, a database a test; real Valkey, a database number a test.

The servers start once a session. The migrated template is made once; a copy of it costs milliseconds.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
import structlog
from psycopg.conninfo import conninfo_to_dict

from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import databases, migrations
from usher_core.testing import servers

TEMPLATE = "usher_template"


@pytest.fixture(scope="session", autouse=True)
def _plain_logs() -> None:
    # structlog's own default draws a traceback with every local variable, for seconds.
    structlog.configure(
        processors=[structlog.processors.format_exc_info, structlog.processors.KeyValueRenderer()]
    )


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Servers]:
    # fsync off: no test of this session's servers cuts the power; those that do start their own.
    folder: Path = tmp_path_factory.mktemp("servers")
    with servers.start_servers(folder, {"fsync": "off", "max_connections": "200"}) as started:
        yield started


def _on(url: str, database: str) -> str:
    head, _, _ = url.rpartition("/")
    return f"{head}/{database}"


@pytest.fixture(scope="session")
def template(running: servers.Servers) -> str:
    owner = conninfo_to_dict(running.database.owner)["user"]
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {TEMPLATE} OWNER {owner}".encode())
    migrations.upgrade(_on(running.database.owner, TEMPLATE))
    return TEMPLATE


_numbers = itertools.count(1)


@pytest.fixture
def database_urls(running: servers.Servers, template: str) -> Iterator[DatabaseUrls]:
    """URLs of a fresh, migrated database of this test's own, as admin, owner and app."""
    name = f"usher_test_{next(_numbers)}"
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        owner = conninfo_to_dict(running.database.owner)["user"]
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {owner}".encode())
        yield DatabaseUrls(
            *(_on(getattr(running.database, kind), name) for kind in ("admin", "owner", "app"))
        )
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
async def database(database_urls: DatabaseUrls) -> AsyncIterator[databases.Database]:
    """An open store on this test's database, as the serving role."""
    async with databases.Database(database_urls.app, application="usher-test") as opened:
        yield opened


@pytest.fixture
def redis_url(running: servers.Servers) -> Iterator[str]:
    """URL of a Valkey database number of this test's own; it is emptied afterwards."""
    head, _, _ = running.redis_url.rpartition("/")
    url = f"{head}/{next(_numbers) % 14 + 1}"
    client = redis.Redis.from_url(url)
    client.flushdb()
    yield url
    client.flushdb()
    client.close()
