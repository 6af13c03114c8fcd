"""A batch that only creates is applied to what it assumes, in one round trip, and only if that is so."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from usher_core import errors, ids
from usher_core.changes import records, snapshots
from usher_core.embedded.databases import DatabaseUrls
from usher_core.scim import documents, schemas
from usher_core.store import assumptions, batches

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
TENANT = ids.TenantId(uuid.UUID(int=1))


@pytest.fixture
def owner(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_urls.owner, autocommit=True) as opened:
        opened.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
        opened.execute("INSERT INTO drains (tenant) VALUES (%s)", (TENANT,))
        yield opened


@pytest.fixture
def store(database_urls: DatabaseUrls, owner: psycopg.Connection[Any]) -> Iterator[batches.Connection]:
    """A connection to the tenant, whose epoch is 1; a batch went before."""
    with batches.Connection(database_urls.app) as opened:
        opened.raise_epoch(TENANT)
        assert apply(opened, create("before@x.io"))[0].status == 201
        yield opened


def create(
    name: str, kind: schemas.ResourceType = USER, operation: records.Operation = "create", **more: Any
) -> records.Change:
    body = documents.normalise(kind, {"displayName": name} if kind is GROUP else {"userName": name, **more})
    if kind is GROUP and more:
        body |= more
    return records.Change(
        ids.ChangeId(ids.new_uuid()), records.now(), operation, kind.name, ids.ResourceId(ids.new_uuid()),
        body, None, "t", "r", "",
    )  # fmt: skip


def apply(store: batches.Connection, *changes: records.Change, epoch: int = 1) -> list[records.Outcome]:
    return store.apply(TENANT, epoch, REGISTRY, [(f"{n}-0", one) for n, one in enumerate(changes)])


def rows(owner: psycopg.Connection[Any], query: str) -> list[Any]:
    return owner.execute(query).fetchall()


def test_creates_are_one_call_and_other_changes_are_not(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("DROP FUNCTION usher_apply_batch")
    with pytest.raises(psycopg.errors.UndefinedFunction):
        apply(store, create("ada@x.io"))
    missing = dataclasses.replace(create("eve@x.io"), operation="delete", body=None)
    assert apply(store, create("bob@x.io"), missing)[0].status == 201


def test_the_first_batch_of_a_drain_is_one_call_too(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    other = ids.TenantId(uuid.UUID(int=2))
    owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'other')", (other,))
    owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (other,))
    owner.execute("DROP FUNCTION usher_apply_batch")
    store.raise_epoch(other)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        store.apply(other, 1, REGISTRY, [("1-0", create("ada@x.io"))])


def test_what_is_answered_and_logged_has_the_moment_that_the_store_told(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    ada, staff = create("ada@x.io", emails=[{"value": "Ada@X.io"}]), create("Staff", GROUP)
    outcomes = apply(store, ada, staff)
    assert [one.status for one in outcomes] == [201, 201]
    [(applied,)] = rows(
        owner, "SELECT DISTINCT applied_at FROM change_log WHERE body->>'userName' <> 'before@x.io'"
    )
    assert {(one.created_at, one.modified_at) for one in outcomes} == {(applied, applied)}
    assert rows(
        owner, "SELECT id, created_at, modified_at FROM resources ORDER BY created_at DESC, type"
    ) == [
        (staff.resource_id, applied, applied),
        (ada.resource_id, applied, applied),
        *rows(owner, "SELECT id, created_at, modified_at FROM resources ORDER BY created_at LIMIT 1"),
    ]
    assert rows(
        owner, "SELECT number, kind, at = %s FROM events ORDER BY number".replace("%s", f"'{applied}'")
    ) == [
        (1, "create", False),
        (2, "create", True),
        (3, "create", True),
    ]
    assert rows(owner, "SELECT type, total FROM totals ORDER BY type") == [("Group", 1), ("User", 2)]


def test_a_taken_name_is_refused_and_the_rest_of_the_batch_is_created(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    outcomes = apply(store, create("ada@x.io"), create("BEFORE@x.io"), create("bob@x.io"))
    assert [one.status for one in outcomes] == [201, 409, 201]
    assert rows(owner, "SELECT count(*) FROM resources") == [(3,)]
    assert rows(owner, "SELECT count(*) FROM change_log") == [(4,)]


def test_a_name_that_the_batch_itself_takes_twice_is_refused_the_second_time(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    outcomes = apply(store, create("ada@x.io"), create("Ada@X.io"))
    assert [(one.status, one.created_at is None) for one in outcomes] == [(201, False), (409, True)]
    assert rows(owner, "SELECT number FROM events ORDER BY number") == [(1,), (2,)]


def test_a_redelivered_create_gets_the_outcome_it_had(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    ada, bob = create("ada@x.io"), create("bob@x.io")
    first = apply(store, ada)
    again = apply(store, ada, bob)
    assert dataclasses.replace(again[0], resource_id=None) == first[0]
    assert again[1].status == 201
    assert rows(owner, "SELECT count(*) FROM resources") == [(3,)]
    assert rows(owner, "SELECT number FROM events ORDER BY number") == [(1,), (2,), (3,)]


def test_a_configuration_that_changed_meanwhile_counts(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    inactive = create("ada@x.io", externalId="1", active=False)
    apply(store, inactive)
    owner.execute("""UPDATE tenants SET config = '{"revive_inactive": false}'""")
    # Within one batch: the second would revive the first, if the policy were still the old one.
    pair = create("bob@x.io", externalId="2", active=False), create("bob@x.io", externalId="2")
    assert [one.status for one in apply(store, *pair)] == [201, 409]
    owner.execute("UPDATE tenants SET config = '{}'")
    pair = create("eve@x.io", externalId="3", active=False), create("eve@x.io", externalId="3")
    revived = apply(store, *pair)
    assert [(one.status, one.resource_id) for one in revived] == [(201, None), (201, pair[0].resource_id)]


def test_other_schemas_are_told_and_nothing_is_written(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    owner.execute("UPDATE tenants SET schemas_version = 1")
    with pytest.raises(batches.SchemasChanged):
        apply(store, create("ada@x.io"))
    assert rows(owner, "SELECT count(*) FROM resources") == [(1,)]


def test_a_superseded_drain_writes_nothing(
    store: batches.Connection, owner: psycopg.Connection[Any], database_urls: DatabaseUrls
) -> None:
    with batches.Connection(database_urls.app) as younger:
        assert younger.raise_epoch(TENANT) == 2
    with pytest.raises(errors.DrainSuperseded):
        apply(store, create("ada@x.io"))
    assert rows(owner, "SELECT count(*) FROM resources") == [(1,)]


def test_a_month_without_a_partition_gets_one(
    store: batches.Connection, owner: psycopg.Connection[Any]
) -> None:
    late = dataclasses.replace(
        create("ada@x.io"), accepted_at=datetime.datetime(2020, 1, 5, tzinfo=datetime.UTC)
    )
    assert [one.status for one in apply(store, late)] == [201]


@pytest.mark.parametrize(
    ("change", "may"),
    [
        pytest.param(create("a@x.io"), True, id="a user"),
        pytest.param(create("Staff", GROUP), True, id="a group without members"),
        pytest.param(create("Staff", GROUP, members=[{"value": str(uuid.UUID(int=9))}]), False, id="members"),
        pytest.param(create("a@x.io", operation="replace"), False, id="a replace"),
    ],
)
def test_only_creates_that_refer_to_nothing_may_assume(change: records.Change, may: bool) -> None:
    needs = snapshots.Needs()
    snapshots.ask(needs, REGISTRY, change)
    assert assumptions.may_be_made([change], needs) is may
