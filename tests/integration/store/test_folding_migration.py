"""What was stored before there were folded copies gets them, and an old worker leaves none that is wrong."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import alembic.command
import psycopg
import pytest
import sqlalchemy
from psycopg.types.json import Jsonb

from usher_core.store import migrations
from usher_core.testing import servers

TENANT = uuid.UUID(int=1)


@pytest.fixture
def url(running: servers.Servers) -> Iterator[str]:
    """A database at the first revision, with a user, a group and a member."""
    name = "usher_folding_tests"
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} OWNER {migrations.OWNER}".encode())
    url = running.database.owner.rpartition("/")[0] + "/" + name
    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1))
    with engine.connect() as connection:
        config = migrations._config()
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        connection.commit()
    engine.dispose()
    with psycopg.connect(url) as owner:
        for number, title in enumerate(("GROẞ", "PLAIN")):
            owner.execute(
                "INSERT INTO resources (tenant, type, id, version, document, created_at, modified_at)"
                " VALUES (%s, 'User', %s, 1, %s, now(), now())",
                (TENANT, uuid.UUID(int=number), Jsonb({"title": title})),
            )
            owner.execute(
                "INSERT INTO members VALUES (%s, %s, %s, 'User', %s)",
                (TENANT, uuid.UUID(int=9), uuid.UUID(int=number), title),
            )
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'n', 'a')", (TENANT,))
        owner.execute(
            "INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'n', 'b')", (uuid.UUID(int=2),)
        )
    yield url
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def test_what_is_there_is_folded_and_every_tenant_gets_a_key_of_its_own(url: str) -> None:
    migrations.upgrade(url)
    with psycopg.connect(url) as owner:
        folded = owner.execute("SELECT folded FROM resources ORDER BY id").fetchall()
        assert folded == [({"title": "gross"},), (None,)]
        assert owner.execute("SELECT folded FROM members ORDER BY member_id").fetchall() == [
            ("gross",),
            (None,),
        ]
        keys = {bytes(key) for (key,) in owner.execute("SELECT cursor_key FROM tenants").fetchall()}
        assert [len(key) for key in keys] == [32, 32]


def test_an_update_by_a_worker_of_the_version_before_leaves_no_old_copy(url: str) -> None:
    migrations.upgrade(url)
    row = {
        "type": "User", "id": str(uuid.UUID(int=0)), "version": 2, "document": {"title": "Weiß"},
        "external_id": None, "display_name": None, "modified_at": "2030-01-31T00:00:00Z",
    }  # fmt: skip
    with psycopg.connect(url) as owner:
        owner.execute("SELECT usher_apply_batch(%s, now(), %s)", (TENANT, Jsonb({"updated": [row]})))
        found = owner.execute("SELECT version, folded FROM resources ORDER BY id LIMIT 1").fetchone()
    assert found == (2, None)
