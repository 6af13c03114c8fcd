"""A batch is one transaction: all of it or nothing, once, and only by the tenant's drain."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from usher_core import errors, ids
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.scim import documents, patches, schemas
from usher_core.store import batches, databases, predicates, resources, selections, sweeps

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
TENANT = ids.TenantId(uuid.UUID(int=1))
EVERYTHING = resources.Relations(groups=True, members=True)


@pytest.fixture(autouse=True)
def tenant(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
        owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (TENANT,))


@pytest.fixture
def connection(database_urls: DatabaseUrls) -> Iterator[batches.Connection]:
    opened = batches.Connection(database_urls.app)
    yield opened
    opened.close()


def change(
    operation: records.Operation,
    resource_id: ids.ResourceId,
    body: Any = None,
    kind: str = "User",
    **more: Any,
) -> batches.Entry:
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


def user(name: str, **more: Any) -> batches.Entry:
    return change("create", new_id(), {"userName": name, "active": True} | more)


async def find(
    database: databases.Database, entry: batches.Entry, kind: Any = USER
) -> resources.Resource | None:
    return await resources.find(database, TENANT, kind, entry[1].resource_id, EVERYTHING)


async def test_a_batch_is_read_back_as_it_was_applied(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    ada, bob = user("ada@x.io", emails=[{"value": "Ada@X.io", "type": "work"}]), user("bob@x.io")
    team = change(
        "create", new_id(), {"displayName": "Team", "members": [{"value": str(ada[1].resource_id)}]}, "Group"
    )
    joined = change(
        "patch", team[1].resource_id,
        [{"op": "add", "path": "members", "value": [{"value": str(bob[1].resource_id)}]}], "Group",
    )  # fmt: skip
    outcomes = connection.apply(TENANT, epoch, REGISTRY, [ada, bob, team, joined])
    assert [one.status for one in outcomes] == [201, 201, 201, 200]
    found = await find(database, team, GROUP)
    assert found is not None
    assert found.stored.version == 2
    assert [one["value"] for one in found.members or []] == [str(ada[1].resource_id), str(bob[1].resource_id)]
    shown = await find(database, ada)
    assert shown is not None
    assert shown.groups == [{"value": str(team[1].resource_id), "display": "Team"}]


def team(name: str, *members: ids.ResourceId) -> batches.Entry:
    held = [{"value": str(one), "display": f"Member {n}"} for n, one in enumerate(members)]
    return change("create", new_id(), {"displayName": name, "members": held}, "Group")


async def test_a_user_s_groups_are_those_that_hold_it_and_those_that_hold_them(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    ada = user("ada@x.io")
    inner = team("Inner", ada[1].resource_id)
    middle = team("Middle", inner[1].resource_id)
    outer = team("Outer", middle[1].resource_id, ada[1].resource_id)
    # A circle: the inner one holds the outer one.
    closing = change(
        "patch", inner[1].resource_id,
        [{"op": "add", "path": "members", "value": [{"value": str(outer[1].resource_id)}]}], "Group",
    )  # fmt: skip
    outcomes = connection.apply(TENANT, epoch, REGISTRY, [ada, inner, middle, outer, closing])
    assert [one.status for one in outcomes] == [201, 201, 201, 201, 200]

    async def shown() -> list[tuple[str, str | None]]:
        found = await find(database, ada)
        assert found is not None
        return [(one["display"], one.get("type")) for one in found.groups or []]

    assert await shown() == [("Inner", None), ("Outer", None), ("Middle", "indirect")]
    connection.apply(TENANT, epoch, REGISTRY, [change("delete", middle[1].resource_id, kind="Group")])
    assert await shown() == [("Inner", None), ("Outer", None)]
    connection.apply(TENANT, epoch, REGISTRY, [change("delete", outer[1].resource_id, kind="Group")])
    assert await shown() == [("Inner", None)]


@pytest.mark.parametrize(
    ("condition", "left"),
    [
        pytest.param('display eq "MEMBER 1"', {1}, id="display"),
        pytest.param('type eq "Group"', {3}, id="type"),
        pytest.param('not (type eq "Group") and display co "2"', {2}, id="not, and"),
        pytest.param('display eq "Member 0" or display ew "3"', {0, 3}, id="or"),
        pytest.param("value pr", {0, 1, 2, 3}, id="all"),
        pytest.param('display eq "nobody"', set(), id="none"),
    ],
)
async def test_members_that_a_filter_selects_leave(
    connection: batches.Connection, database: databases.Database, condition: str, left: set[int]
) -> None:
    epoch = connection.raise_epoch(TENANT)
    people = [user(f"user{n}@x.io") for n in range(3)]
    inner = team("Inner")
    everybody = [entry[1].resource_id for entry in [*people, inner]]
    outer = team("Outer", *everybody)
    connection.apply(TENANT, epoch, REGISTRY, [*people, inner, outer])
    operation = {"op": "remove", "path": f"members[{condition}]"}
    patch = change("patch", outer[1].resource_id, [operation], "Group")
    [outcome] = connection.apply(TENANT, epoch, REGISTRY, [patch])
    assert (outcome.status, outcome.version) == (200, 2 if left else 1)
    found = await find(database, outer, GROUP)
    assert found is not None
    held = {one["value"] for one in found.members or []}
    assert held == {str(one) for n, one in enumerate(everybody) if n not in left}


@pytest.mark.parametrize("leaving", ["members", 'members[display eq "Member 0"]'])
async def test_a_member_that_comes_back_in_the_same_batch_has_its_new_name(
    connection: batches.Connection, database: databases.Database, leaving: str
) -> None:
    epoch = connection.raise_epoch(TENANT)
    ada = user("ada@x.io")
    group = team("Team", ada[1].resource_id)
    connection.apply(TENANT, epoch, REGISTRY, [ada, group])
    back = {"value": str(ada[1].resource_id), "display": "Countess"}
    operations = [
        [{"op": "remove", "path": leaving}],
        [{"op": "add", "path": "members", "value": [back]}],
    ]
    patches_ = [change("patch", group[1].resource_id, one, "Group") for one in operations]
    connection.apply(TENANT, epoch, REGISTRY, patches_)
    found = await find(database, group, GROUP)
    assert found is not None
    assert [one["display"] for one in found.members or []] == ["Countess"]


@pytest.mark.parametrize("limit", ["MAX_COMPARISONS", "MAX_SELECTED"])
async def test_a_filter_on_too_many_members_is_refused(
    connection: batches.Connection,
    database: databases.Database,
    monkeypatch: pytest.MonkeyPatch,
    limit: str,
) -> None:
    monkeypatch.setattr(selections, limit, 3)
    epoch = connection.raise_epoch(TENANT)
    people = [user(f"user{n}@x.io") for n in range(4)]
    members = [entry[1].resource_id for entry in people]
    large, small = team("Large", *members), team("Small", *members[:3])
    connection.apply(TENANT, epoch, REGISTRY, [*people, large, small])

    def removing(group: batches.Entry, *conditions: str) -> batches.Entry:
        operations = [{"op": "remove", "path": f"members[{condition}]"} for condition in conditions]
        return change("patch", group[1].resource_id, operations, "Group")

    outcomes = connection.apply(
        TENANT, epoch, REGISTRY,
        [
            removing(large, "value pr"),
            removing(small, 'display pr', 'type pr'),
            removing(large, f'value eq "{members[0]}" and type eq "User"'),  # looks at one
            removing(small, "value pr"),
        ],
    )  # fmt: skip
    assert [(one.status, one.scim_type) for one in outcomes] == [
        (400, "tooMany"), (400, "tooMany"), (200, None), (200, None),
    ]  # fmt: skip
    left = [await find(database, group, GROUP) for group in (large, small)]
    assert [len(one.members or []) for one in left if one is not None] == [3, 0]


async def test_a_redelivered_batch_has_no_second_effect(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    ada = user("ada@x.io")
    title = change("patch", ada[1].resource_id, [{"op": "add", "path": "title", "value": "Countess"}])
    first = connection.apply(TENANT, epoch, REGISTRY, [ada, title])
    again = connection.apply(TENANT, epoch, REGISTRY, [ada, title])
    assert [one.status for one in again] == [one.status for one in first] == [201, 200]
    found = await find(database, ada)
    assert found is not None
    assert found.stored.version == 2


async def test_a_change_redelivered_in_another_month_is_still_known(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    moment = datetime.datetime(2026, 1, 31, 23, 59, 59, 999999, tzinfo=datetime.UTC)
    entry = user("ada@x.io")
    late = (entry[0], dataclasses.replace(entry[1], accepted_at=moment))
    # The partition of that month is missing: it is made.
    statuses = [connection.apply(TENANT, epoch, REGISTRY, [late])[0].status for _ in range(2)]
    assert statuses == [201, 201]
    found = await find(database, entry)
    assert found is not None
    assert found.stored.version == 1


async def test_a_superseded_drain_commits_nothing(
    connection: batches.Connection, database: databases.Database, database_urls: DatabaseUrls
) -> None:
    old = connection.raise_epoch(TENANT)
    successor = batches.Connection(database_urls.app)
    young = successor.raise_epoch(TENANT)
    ada, bob = user("ada@x.io"), user("bob@x.io")
    with pytest.raises(errors.DrainSuperseded):
        connection.apply(TENANT, old, REGISTRY, [ada])
    with pytest.raises(errors.DrainSuperseded):
        connection.bury(TENANT, old, ada, reason="r", traceback="", attempts=1)
    assert [one.status for one in successor.apply(TENANT, young, REGISTRY, [bob])] == [201]
    successor.close()
    assert await find(database, ada) is None


@pytest.mark.parametrize("in_pipeline", [False, True], ids=["between statements", "in a pipeline"])
def test_a_worker_that_stopped_in_its_transaction_is_freed_of_the_lock(
    database_urls: DatabaseUrls, *, in_pipeline: bool
) -> None:
    conninfo = databases.conninfo(database_urls.app, statement_timeout=60, application="usher-worker")
    with batches.Connection(database_urls.app) as successor:
        successor.raise_epoch(TENANT)
        stopped = psycopg.connect(conninfo, autocommit=True)
        stopped.execute("SET idle_in_transaction_session_timeout = 0")
        pipeline = stopped.pipeline() if in_pipeline else contextlib.nullcontext()
        pipeline.__enter__()  # and it never ends: that is what being stopped means
        stopped.execute("BEGIN")
        stopped.execute(*databases.set_tenant(TENANT))
        stopped.execute("SELECT epoch FROM drains FOR UPDATE")
        sweep = sweeps.Sweeps(database_urls.app)
        with sweep.turn() as ours:
            assert ours
            assert sweep.free_stopped() == 0
        time.sleep(sweeps.STOPPED_AFTER + 0.2)
        with sweep.turn():
            assert sweep.free_stopped() == 1
        assert successor.raise_epoch(TENANT) == 2
        stopped.close()
        sweep.close()


async def test_a_change_that_can_not_be_applied_takes_its_batch_back_with_it(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    ada = user("ada@x.io")
    broken = (ada[0], dataclasses.replace(user("bob@x.io")[1], operation="patch", body="nonsense"))
    with pytest.raises(batches.ChangeBroken):
        connection.apply(TENANT, epoch, REGISTRY, [ada, broken])
    assert await find(database, ada) is None


async def test_a_value_freed_and_taken_in_one_batch_is_no_conflict(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    ada = user("ada@x.io")
    connection.apply(TENANT, epoch, REGISTRY, [ada])
    heir = user("ADA@x.io")
    outcomes = connection.apply(TENANT, epoch, REGISTRY, [change("delete", ada[1].resource_id), heir])
    assert [one.status for one in outcomes] == [204, 201]
    assert await find(database, ada) is None
    assert await find(database, heir) is not None


async def test_the_constraints_stand_behind_the_decisions_in_memory(
    connection: batches.Connection, database_urls: DatabaseUrls
) -> None:
    epoch = connection.raise_epoch(TENANT)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute(
            "CREATE FUNCTION steal() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " INSERT INTO unique_values VALUES (NEW.tenant, 'User', 'userName', 'ada@x.io', NEW.tenant);"
            " RETURN NEW; END $$;"
            "CREATE TRIGGER steal BEFORE INSERT ON resources FOR EACH ROW EXECUTE FUNCTION steal()"
        )
    with pytest.raises(batches.ConstraintHit):
        connection.apply(TENANT, epoch, REGISTRY, [user("ada@x.io")])


async def test_a_dead_letter_is_logged_once_with_its_500(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    ada = user("ada@x.io")
    for _ in range(2):
        outcome = connection.bury(TENANT, epoch, ada, reason="WorkerDied", traceback="t", attempts=3)
        assert outcome.status == 500
    [rows] = await database.fetch(TENANT, ("SELECT reason, attempts FROM dead_letters", ()))
    assert rows == [("WorkerDied", 3)]
    outcome = await resources.find_outcome(database, TENANT, ada[1].accepted_at, ada[1].change_id)
    assert outcome is not None
    assert outcome.status == 500


async def test_totals_follow_creations_and_deletions(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    people = [user(f"{n}@x.io") for n in range(5)]
    connection.apply(TENANT, epoch, REGISTRY, people)
    connection.apply(TENANT, epoch, REGISTRY, [change("delete", people[0][1].resource_id)])
    everybody = resources.Query(
        ("User",), predicates.over(TENANT, {USER: None}), is_filtered=False,
        relations=resources.Relations(groups=False, members=False),
    )  # fmt: skip
    page = await resources.page(database, TENANT, everybody, offset=1, limit=2)
    assert page.total == 4
    assert [one.stored.id for one in page.resources] == [people[2][1].resource_id, people[3][1].resource_id]


def test_what_postgresql_can_not_hold_is_no_passing_failure(connection: batches.Connection) -> None:
    # Otherwise it would be tried again for ever, at the head of the tenant's stream.
    epoch = connection.raise_epoch(TENANT)
    noise = "".join(f"{n * 7919 % 104729:x}" for n in range(4000))
    for broken in ({"externalId": noise}, {"title": "NUL \x00"}):
        entry = user("ada@x.io")
        body = entry[1].body | broken
        with pytest.raises(batches.ConstraintHit):
            connection.apply(TENANT, epoch, REGISTRY, [("1-0", dataclasses.replace(entry[1], body=body))])


async def test_a_dead_letter_of_another_month_is_kept_too(
    connection: batches.Connection, database: databases.Database
) -> None:
    epoch = connection.raise_epoch(TENANT)
    moment = datetime.datetime(2025, 1, 15, tzinfo=datetime.UTC)
    entry = user("ada@x.io")
    late = (entry[0], dataclasses.replace(entry[1], accepted_at=moment))
    connection.bury(TENANT, epoch, late, reason="r", traceback="t", attempts=1)
    [rows] = await database.fetch(TENANT, ("SELECT reason FROM dead_letters", ()))
    assert rows == [("r",)]
