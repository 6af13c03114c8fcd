"""Row-level security hides every tenant from a transaction that did not name it, and the log is for good."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg.rows import TupleRow

from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import databases

TABLES = (
    "tenants", "tokens", "drains", "resources", "unique_values", "lookup_values",
    "members", "totals", "change_log", "dead_letters", "deleted_resources", "inbox", "fences", "events",
    "schema_requests",
)  # fmt: skip
ONE, OTHER = uuid.UUID(int=1), uuid.UUID(int=2)
NOW = datetime.datetime.now(datetime.UTC)

# A row of each table that has nothing but what it must have.
ROWS = {
    "tenants": ("namespace, name", ("n", "t")),
    "tokens": (
        "token_id, name, digest, role, issued_at, expires_at",
        ("k", "okta", b"x" * 32, "reader", NOW, NOW + datetime.timedelta(days=1)),
    ),
    "drains": ("epoch", (1,)),
    "resources": (
        "type, id, version, document, created_at, modified_at",
        ("User", uuid.UUID(int=9), 1, "{}", NOW, NOW),
    ),
    "deleted_resources": (
        "type, id, version, document, created_at, modified_at, deleted_at",
        ("User", uuid.UUID(int=9), 1, "{}", NOW, NOW, NOW),
    ),
    "unique_values": ("type, path, folded, id", ("User", "userName", "a", uuid.UUID(int=9))),
    "lookup_values": ("type, path, folded, id", ("User", "emails.value", "a", uuid.UUID(int=9))),
    "members": ("group_id, member_id, member_type", (uuid.UUID(int=8), uuid.UUID(int=9), "User")),
    "totals": ("type, total", ("User", 1)),
    "change_log": (
        "accepted_at, change_id, stream_id, operation, resource_type, resource_id, token_id, request_id,"
        " applied_at, status",
        (NOW, uuid.UUID(int=7), "1-0", "create", "User", uuid.UUID(int=9), "k", "r", NOW, 201),
    ),
    "inbox": ("number, change_id, accepted_at, entry", (1, uuid.UUID(int=7), NOW, b"[]")),
    "fences": (
        "subject, group_id, change_id, accepted_at",
        (uuid.UUID(int=9), uuid.UUID(int=0), uuid.UUID(int=7), NOW),
    ),
    "events": (
        "number, at, kind, change_id, resource_type, resource_id",
        (1, NOW, "create", uuid.UUID(int=7), "User", uuid.UUID(int=9)),
    ),
    "schema_requests": ("digest, change_id, accepted_at", ("d", uuid.UUID(int=7), NOW)),
    "dead_letters": (
        "accepted_at, change_id, change, reason, traceback, attempts, failed_at",
        (NOW, uuid.UUID(int=7), "{}", "WorkerDied", "", 3, NOW),
    ),
}


@pytest.fixture
def app(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection[TupleRow]]:
    conninfo = databases.conninfo(database_urls.app, statement_timeout=5, application="test")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        yield connection


def insert(connection: psycopg.Connection[TupleRow], table: str, tenant: uuid.UUID, named: uuid.UUID) -> None:
    columns, values = ROWS[table]
    marks = ", ".join(["%s"] * (len(values) + 1))
    with connection.transaction():
        connection.execute("SELECT set_config('usher.tenant', %s, true)", (str(named),))
        connection.execute(
            f"INSERT INTO {table} (tenant, {columns}) VALUES ({marks})".encode(), (tenant, *values)
        )


def test_every_table_that_holds_tenants_rows_is_tried_here(app: psycopg.Connection[TupleRow]) -> None:
    found = app.execute(
        "SELECT table_name FROM information_schema.columns WHERE column_name = 'tenant'"
        " AND table_schema = 'public' AND table_name !~ '^effective_|_[0-9]{4}_[0-9]{2}$'"
    ).fetchall()
    assert {name for (name,) in found} == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_a_tenants_rows_are_seen_by_nobody_else(app: psycopg.Connection[TupleRow], table: str) -> None:
    insert(app, table, ONE, named=ONE)
    counted = []
    for named in (ONE, OTHER, None):
        with app.transaction():
            if named is not None:
                app.execute("SELECT set_config('usher.tenant', %s, true)", (str(named),))
            counted.append(len(app.execute(f"SELECT 1 FROM {table}".encode()).fetchall()))
    assert counted == [1, 0, 0]
    # The setting ended with its transaction; what is left of it is not a tenant.
    assert app.execute(f"SELECT 1 FROM {table}".encode()).fetchall() == []


@pytest.mark.parametrize("view", ["effective_resources", "effective_members"])
def test_the_effective_state_is_seen_by_nobody_else(app: psycopg.Connection[TupleRow], view: str) -> None:
    insert(app, view.removeprefix("effective_"), ONE, named=ONE)
    counted = []
    for named in (ONE, OTHER):
        with app.transaction():
            app.execute("SELECT set_config('usher.tenant', %s, true)", (str(named),))
            counted.append(len(app.execute(f"SELECT 1 FROM {view}".encode()).fetchall()))
    assert counted == [1, 0]


@pytest.mark.parametrize("table", TABLES)
def test_a_row_of_another_tenant_can_not_be_written(app: psycopg.Connection[TupleRow], table: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        insert(app, table, OTHER, named=ONE)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE change_log SET status = 500",
        "DELETE FROM change_log",
        "UPDATE events SET version = 1",
        "DELETE FROM events",
    ],
)
def test_the_change_log_and_the_events_can_not_be_rewritten(
    app: psycopg.Connection[TupleRow], statement: str
) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(statement.encode())


def test_only_a_deleted_tenants_log_can_be_forgotten(app: psycopg.Connection[TupleRow]) -> None:
    insert(app, "change_log", ONE, named=ONE)
    insert(app, "tenants", ONE, named=ONE)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="living tenant"):
        app.execute("SELECT usher_forget_change_log(%s, 10)", (ONE,))
    with app.transaction():
        app.execute("SELECT set_config('usher.tenant', %s, true)", (str(ONE),))
        app.execute("UPDATE tenants SET deleted_at = now()")
    assert app.execute("SELECT usher_forget_change_log(%s, 10)", (ONE,)).fetchone() == (1,)


def test_a_partition_can_not_be_read_around_its_parent(app: psycopg.Connection[TupleRow]) -> None:
    [(name,)] = app.execute(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'change_log'::regclass LIMIT 1"
    ).fetchall()
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        app.execute(f"SELECT 1 FROM {name}".encode())


def test_the_serving_role_has_no_way_past_row_level_security(app: psycopg.Connection[TupleRow]) -> None:
    [(role, superuser, bypasses, owns)] = app.execute(
        "SELECT current_user, rolsuper, rolbypassrls,"
        " (SELECT count(*) FROM pg_class WHERE relowner = r.oid) FROM pg_roles r WHERE rolname = current_user"
    ).fetchall()
    assert (role, superuser, bypasses, owns) == ("usher_app", False, False, 0)


def test_an_administrators_login_serves_without_its_rights(database_urls: DatabaseUrls) -> None:
    _, _, name = database_urls.app.rpartition("/")
    conninfo = databases.conninfo(
        f"{database_urls.admin.rpartition('/')[0]}/{name}", statement_timeout=5, application="test"
    )
    with psycopg.connect(conninfo) as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("usher_app",)


def test_old_partitions_are_dropped_and_new_ones_made_once(app: psycopg.Connection[TupleRow]) -> None:
    january = datetime.datetime(2020, 1, 31, 23, 59, tzinfo=datetime.UTC)
    made = [app.execute("SELECT usher_keep_change_log(%s)", (january,)).fetchone() for _ in range(2)]
    assert made == [(True,), (False,)]
    dropped = app.execute(
        "SELECT usher_drop_change_log(%s)", (datetime.datetime(2020, 3, 1, tzinfo=datetime.UTC),)
    ).fetchone()
    assert dropped == (2,), "one of the log, and one of the events"
