"""What is left of a deleted user: kept, found, brought back once, and purged in time."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from usher_core import ids
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.scim import documents, patches, schemas
from usher_core.store import batches, databases, deletions, removals, resources, sweeps

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
TENANT = ids.TenantId(uuid.UUID(int=1))
EVERYTHING = resources.Relations(groups=True, members=True)
ADA: dict[str, Any] = {
    "userName": "ada@x.io",
    "externalId": "00u1",
    "active": True,
    "emails": [{"value": "ada@x.io", "type": "work"}],
}


@pytest.fixture(autouse=True)
def tenant(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
        owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (TENANT,))


class Tenant:
    """Applies changes to the tenant, one a batch unless several are given."""

    def __init__(self, urls: DatabaseUrls) -> None:
        self.urls = urls
        self.connection = batches.Connection(urls.app)
        self.epoch = self.connection.raise_epoch(TENANT)

    def apply(self, *entries: batches.Entry) -> list[records.Outcome]:
        return self.connection.apply(TENANT, self.epoch, REGISTRY, entries)

    def configure(self, **config: Any) -> None:
        with psycopg.connect(self.urls.owner) as owner:
            owner.execute("UPDATE tenants SET config = %s", (Jsonb(config),))

    def age(self, hours: float) -> None:
        with psycopg.connect(self.urls.owner) as owner:
            owner.execute(
                "UPDATE deleted_resources SET deleted_at = deleted_at - make_interval(secs => %s)",
                (hours * 3600,),
            )


@pytest.fixture
def acme(database_urls: DatabaseUrls) -> Iterator[Tenant]:
    opened = Tenant(database_urls)
    yield opened
    opened.connection.close()


def change(operation: Any, resource_id: ids.ResourceId, body: Any = None, kind: str = "User") -> Any:
    resource_type = REGISTRY.by_name(kind)
    if operation in ("create", "replace"):
        body = documents.normalise(resource_type, body)
    elif operation == "patch":
        body = patches.dump(patches.parse({"schemas": [], "Operations": body}, resource_type))
    made = records.Change(
        ids.ChangeId(ids.new_uuid()), records.now(), operation, kind, resource_id, body, None, "t", "r", ""
    )
    return "1-0", made


def new_id() -> ids.ResourceId:
    return ids.ResourceId(ids.new_uuid())


def group_of(*members: ids.ResourceId) -> batches.Entry:
    body = {"displayName": "Team", "members": [{"value": str(one)} for one in members]}
    entry: batches.Entry = change("create", new_id(), body, "Group")
    return entry


async def find(
    database: databases.Database, resource_id: ids.ResourceId, kind: schemas.ResourceType = USER
) -> resources.Resource | None:
    return await resources.find(database, TENANT, kind, resource_id, EVERYTHING)


async def test_a_deleted_user_is_restored_with_all_by_which_it_is_found_and_in_no_group(
    acme: Tenant, database: databases.Database
) -> None:
    ada = new_id()
    team = group_of(ada)
    acme.apply(change("create", ada, ADA), team, change("patch", ada, [
        {"op": "add", "path": "title", "value": "Countess"}]))  # fmt: skip
    before = await find(database, ada)
    acme.apply(change("delete", ada))
    assert await find(database, ada) is None
    [left] = await deletions.list_users(database, TENANT)
    assert left == await deletions.find_user(database, TENANT, ada)
    assert before is not None
    assert left.stored == before.stored
    back = change("restore", ada, left.stored.document)
    outcomes = [acme.apply(back)[0] for _ in range(2)]  # delivered twice, applied once
    assert [(one.status, one.version) for one in outcomes] == [(200, 3), (200, 3)]
    found = await find(database, ada)
    assert found is not None
    assert found.stored.document == before.stored.document
    assert found.stored.created_at == before.stored.created_at
    assert found.groups == []
    assert await deletions.list_users(database, TENANT) == []
    [(unique,)], [(lookups,)], [(total,)] = await database.fetch(
        TENANT,
        ("SELECT count(*) FROM unique_values WHERE id = %s", (ada,)),
        ("SELECT count(*) FROM lookup_values WHERE id = %s", (ada,)),
        ("SELECT total FROM totals WHERE type = 'User'", ()),
    )
    assert (unique, lookups, total) == (1, 1, 1)


async def test_a_name_that_was_taken_meanwhile_stays_its_new_owner_s(
    acme: Tenant, database: databases.Database
) -> None:
    ada, heir = new_id(), new_id()
    acme.apply(change("create", ada, ADA))
    acme.apply(change("delete", ada))
    [left] = await deletions.list_users(database, TENANT)
    acme.apply(change("create", heir, ADA))
    [outcome] = acme.apply(change("restore", ada, left.stored.document))
    assert (outcome.status, outcome.scim_type) == (409, "uniqueness")
    assert [one.stored.id for one in await deletions.list_users(database, TENANT)] == [ada]
    acme.apply(change("delete", heir))
    [outcome] = acme.apply(change("restore", ada, left.stored.document))
    assert outcome.status == 200


@pytest.mark.parametrize(
    ("config", "hours", "left"),
    [
        pytest.param({}, 719, 1, id="the default keeps 30 days"),
        pytest.param({}, 721, 0, id="and no longer"),
        pytest.param({"deleted_retention": "1h30m"}, 1.4, 1, id="hours and minutes"),
        pytest.param({"deleted_retention": "1h30m"}, 1.6, 0, id="hours and minutes later"),
        pytest.param({"deleted_retention": "90m5s"}, 1.5, 1, id="minutes and seconds"),
        pytest.param({"deleted_retention": "90m5s"}, 1.51, 0, id="minutes and seconds later"),
    ],
)
async def test_the_sweep_purges_what_is_older_than_its_tenant_keeps_it(
    acme: Tenant, database: databases.Database, config: dict[str, Any], hours: float, left: int
) -> None:
    acme.configure(**config)
    ada = new_id()
    acme.apply(change("create", ada, ADA))
    acme.apply(change("delete", ada))
    acme.age(hours)
    sweep = sweeps.Sweeps(acme.urls.app)
    with sweep.turn():
        assert sweep.purge_deleted() == 1 - left
    sweep.close()
    assert len(await deletions.list_users(database, TENANT)) == left


async def test_a_tenant_that_keeps_nothing_has_nothing_to_restore(
    acme: Tenant, database: databases.Database
) -> None:
    acme.configure(deleted_retention="0s")
    ada = new_id()
    acme.apply(change("create", ada, ADA))
    acme.apply(change("delete", ada))
    assert await deletions.list_users(database, TENANT) == []


async def test_a_deleted_tenant_leaves_no_deleted_user_behind(
    acme: Tenant, database: databases.Database
) -> None:
    ada = new_id()
    acme.apply(change("create", ada, ADA))
    acme.apply(change("delete", ada))
    await removals.delete_tenant(database, TENANT, datetime.datetime.now(datetime.UTC))
    with psycopg.connect(acme.urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM deleted_resources").fetchone() == (0,)


@pytest.mark.parametrize(
    "operation",
    [{"op": "replace", "path": "active", "value": False}, {"op": "remove", "path": "active"}],
    ids=["inactive", "without the attribute"],
)
async def test_an_inactive_user_is_revived_once_under_its_old_id(
    acme: Tenant, database: databases.Database, operation: dict[str, Any]
) -> None:
    ada, second = new_id(), new_id()
    team = group_of(ada)
    acme.apply(change("create", ada, ADA), team)
    acme.apply(change("patch", ada, [operation]))
    again = change("create", second, ADA | {"title": "Countess"})
    outcomes = [acme.apply(again)[0] for _ in range(2)]  # delivered twice, applied once
    assert [(one.status, one.resource_id, one.version) for one in outcomes] == [(201, ada, 3)] * 2
    assert outcomes[1].document == outcomes[0].document
    logged = await resources.find_outcome(database, TENANT, again[1].accepted_at, again[1].change_id)
    assert logged is not None
    assert (logged.resource_id, logged.document) == (ada, outcomes[0].document)
    found = await find(database, ada)
    assert found is not None
    assert (found.groups, found.stored.document["title"]) == ([], "Countess")
    assert await find(database, second) is None
    group = await find(database, team[1].resource_id, GROUP)
    assert group is not None
    assert (group.members, group.stored.version) == ([], 2)
    [(total,)] = (await database.fetch(TENANT, ("SELECT total FROM totals WHERE type = 'User'", ())))[0:1][0]
    assert total == 1


async def test_who_is_deactivated_in_the_very_batch_leaves_its_groups_when_revived(
    acme: Tenant, database: databases.Database
) -> None:
    ada = new_id()
    acme.apply(change("create", ada, ADA), group_of(ada))
    outcomes = acme.apply(
        change("patch", ada, [{"op": "replace", "path": "active", "value": False}]),
        change("create", new_id(), ADA),
    )
    assert [one.status for one in outcomes] == [200, 201]
    found = await find(database, ada)
    assert found is not None
    assert (found.groups, found.stored.document["active"]) == ([], True)


async def test_a_batch_obeys_the_configuration_that_holds_at_its_turn(acme: Tenant) -> None:
    ada = new_id()
    acme.apply(change("create", ada, ADA))
    off = [{"op": "replace", "path": "active", "value": False}]
    acme.configure(actions=["UpdateUsers"])
    [refused] = acme.apply(change("patch", ada, off))
    assert (refused.status, "DeactivateUsers" in (refused.detail or "")) == (403, True)
    acme.configure(actions=["DeactivateUsers"], revive_inactive=False)
    assert acme.apply(change("patch", ada, off))[0].status == 200
    assert acme.apply(change("create", new_id(), ADA))[0].status == 409
