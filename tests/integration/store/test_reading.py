"""Pages come in the order that was asked for, whole and without a gap, and cost what an index costs."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

from usher_core import errors, ids
from usher_core.changes import memberships, snapshots, units
from usher_core.scim import documents, filters, references, schemas
from usher_core.store import (
    batches,
    cursors,
    databases,
    migrations,
    orders,
    predicates,
    resources,
    rowsets,
)
from usher_core.testing import servers

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
NOTHING_MORE = resources.Relations(groups=False, members=False)
NOW = datetime.datetime(2030, 1, 31, tzinfo=datetime.UTC)
MANY, FEW = ids.TenantId(uuid.UUID(int=1)), ids.TenantId(uuid.UUID(int=2))


def resource_id(number: int) -> ids.ResourceId:
    return ids.ResourceId(uuid.UUID(int=1000 + number))


def stored(kind: schemas.ResourceType, number: int, **body: Any) -> snapshots.Stored:
    document = documents.normalise(kind, body)
    return snapshots.Stored(kind.name, resource_id(number), 1, document, NOW, NOW)


def write(url: str, tenant: ids.TenantId, writes: units.Writes) -> None:
    with psycopg.connect(url) as owner:
        owner.execute(
            "INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', %s)", (tenant, str(tenant))
        )
        owner.execute(batches.APPLY, (tenant, NOW, Jsonb(rowsets.derive(REGISTRY, writes, {}))))


@pytest.fixture(scope="module")
def url(running: servers.Servers, template: str) -> Iterator[str]:
    """A database with one large tenant and one small one."""
    name = "usher_reading_tests"
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} OWNER {migrations.OWNER}".encode())
    owner_url = running.database.owner.rpartition("/")[0] + "/" + name
    write(owner_url, MANY, many())
    write(owner_url, FEW, few())
    with psycopg.connect(owner_url, autocommit=True) as owner:
        owner.execute("ANALYZE")  # as autovacuum does after a minute
    yield running.database.app.rpartition("/")[0] + "/" + name
    with psycopg.connect(running.database.admin, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def many() -> units.Writes:
    writes = units.Writes()
    for n in range(5000):
        email = {"value": f"user{n}@x.io", "type": "work"}
        writes.inserted.append(
            stored(USER, n, userName=f"user{n}@x.io", externalId=f"ext{n}", displayName=f"User {n}",
                   emails=[email], title=f"Title {n % 7}")
        )  # fmt: skip
    for n in range(5000, 5400):
        writes.inserted.append(stored(GROUP, n, displayName=f"Group {n}"))
        people = [resource_id((n * 37 + m) % 5000) for m in range(20)]
        members = {one: memberships.Member(one, "User", None) for one in people}
        writes.memberships[resource_id(n)] = memberships.Membership(frozenset(), 0, overrides=dict(members))
    # Groups within groups, of which two hold each other.
    for n, held in {5400: [5000], 5401: [5400, 5402], 5402: [5401]}.items():
        writes.inserted.append(stored(GROUP, n, displayName=f"Group {n}"))
        nested = {resource_id(one): memberships.Member(resource_id(one), "Group", None) for one in held}
        writes.memberships[resource_id(n)] = memberships.Membership(frozenset(), 0, overrides=dict(nested))
    return writes


NAMES = ["b", "A", "a", "ß", "ss", "Zoë", "zoe", "é", "E\u0301", "%", "_", "😀", "10", "9"]


def few() -> units.Writes:
    writes = units.Writes()
    for n, name in enumerate(NAMES * 2):
        body: dict[str, Any] = {"userName": f"{name}{n}", "active": n % 3 == 0}
        if n % 4:
            body |= {"title": name, "externalId": name, "name": {"familyName": name}}
        if n % 5:
            listed = [{"value": f"second{n}@x.io"}, {"value": f"{name}@x.io", "primary": n % 2 == 0}]
            body |= {
                "emails": listed,
                schemas.ENTERPRISE_USER: {"department": name, "manager": {"value": name}},
            }
        writes.inserted.append(stored(USER, n, **body))
    for n in range(40, 45):
        writes.inserted.append(stored(GROUP, n, displayName=f"Group {n % 3}"))
        people = [resource_id(m) for m in range(n - 40)]
        members = {one: memberships.Member(one, "User", NAMES[-one.int % 7]) for one in people}
        writes.memberships[resource_id(n)] = memberships.Membership(frozenset(), 0, overrides=dict(members))
    return writes


def query(
    tenant: ids.TenantId,
    kind: schemas.ResourceType = USER,
    text: str | None = None,
    order: orders.Order = orders.BY_ID,
) -> resources.Query:
    wanted = None if text is None else filters.parse(text, kind)
    condition = predicates.over(tenant, {kind: wanted})
    return resources.Query((kind.name,), condition, text is not None, NOTHING_MORE, order)


def sorted_by(name: str, kind: schemas.ResourceType, *, descending: bool = False) -> orders.Order:
    reference = references.resolve(name, kind)
    assert reference is not None
    return orders.by_attribute({kind: reference}, descending=descending)


async def explained(url: str, tenant: ids.TenantId, statement: databases.Statement) -> list[dict[str, Any]]:
    """Run a statement and list the nodes of its plan."""
    text, values = statement
    async with databases.Database(url) as database:
        [[(plan,)]] = await database.fetch(
            tenant, (f"EXPLAIN (ANALYZE, TIMING off, FORMAT JSON) {text}", values)
        )
    nodes, waiting = [], [plan[0]["Plan"]]
    while waiting:
        node = waiting.pop()
        waiting.extend(node.get("Plans", ()))
        nodes.append(node)
    return nodes


def looked_at(nodes: list[dict[str, Any]]) -> int:
    """Count the rows that the scans of a plan read, and those that they threw away."""
    return sum(
        (node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"]
        for node in nodes
        if "Relation Name" in node
    )


LOOKUPS = [
    pytest.param(USER, 'userName eq "USER77@x.io"', 1, "unique_values_pkey", id="userName"),
    pytest.param(USER, 'externalId eq "ext77"', 1, "resources_by_external_id", id="externalId"),
    pytest.param(USER, 'displayName eq "user 77"', 1, "resources_by_display_name", id="displayName"),
    pytest.param(USER, 'emails.value eq "user77@X.io"', 1, "lookup_values_pkey", id="email"),
    pytest.param(USER, 'emails eq "user77@x.io"', 1, "lookup_values_pkey", id="email without value"),
    pytest.param(
        USER, 'emails[type eq "work"].value eq "user77@x.io"', 1, "lookup_values_pkey", id="Entra's email"
    ),
    pytest.param(USER, f'id eq "{resource_id(77)}"', 1, "resources_pkey", id="id"),
    pytest.param(
        USER, 'userName eq "user77@x.io" and title co "e"', 1, "unique_values_pkey", id="with more asked"
    ),
    pytest.param(
        USER, 'not (title eq "x") and externalId eq "ext77"', 1, "resources_by_external_id", id="with a not"
    ),
    pytest.param(
        USER, 'userName eq "user7@x.io" or externalId eq "ext9"', 2, "unique_values_pkey", id="one or other"
    ),
    pytest.param(
        GROUP, f'id eq "{resource_id(5000)}" and members eq "{resource_id(0)}"', 1, "members_by_member",
        id="Entra's check of a member",
    ),
    pytest.param(
        GROUP, f'members[value eq "{resource_id(0)}" and type eq "User"]', 1, "members_by_member",
        id="the groups of a user",
    ),
    pytest.param(
        USER, f'id eq "{resource_id(0)}" and groups.value eq "{resource_id(5000)}"', 1, "members_",
        id="whether a user is in a group",
    ),
    pytest.param(USER, f'groups.value eq "{resource_id(5000)}"', 20, "members_", id="users of a group"),
    pytest.param(
        USER, f'groups.value eq "{resource_id(5402)}"', 20, "members_nested", id="users of groups in a group"
    ),
    pytest.param(
        USER, f'groups[value eq "{resource_id(5402)}" and type eq "indirect"]', 20, "members_nested",
        id="users of groups in a group, and no others",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "text", "rows", "index"), LOOKUPS)
async def test_a_look_up_reads_an_index_whatever_else_is_asked(
    url: str, kind: schemas.ResourceType, text: str, rows: int, index: str
) -> None:
    asked = query(MANY, kind, text)
    async with databases.Database(url) as database:
        page = await resources.page(database, MANY, asked, offset=0, limit=100)
    assert page.total == len(page.resources) >= rows
    statement = resources.statement(MANY, asked, asked.condition, asked.order.by(), 100, 0)
    nodes = await explained(url, MANY, statement)
    assert any(node.get("Index Name", "").startswith(index) for node in nodes)
    # What is empty may be read whole.
    whole = [node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"]
    assert not set(whole) - {"fences"}
    assert looked_at(nodes) <= 150  # of 5,400


@pytest.mark.parametrize(("tenant", "walks"), [(MANY, True), (FEW, False)], ids=["nested groups", "none"])
async def test_nobody_walks_through_groups_where_none_is_in_another(
    url: str, tenant: ids.TenantId, *, walks: bool
) -> None:
    asked = dataclasses.replace(query(tenant), relations=resources.Relations(groups=True, members=False))
    statement = resources.statement(tenant, asked, asked.condition, asked.order.by(), 100, 0)
    nodes = await explained(url, tenant, statement)
    walked = [node["Actual Loops"] > 0 for node in nodes if node["Node Type"] == "Recursive Union"]
    assert walked == [walks]


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
async def test_a_page_by_cursor_costs_the_same_however_far_down(url: str, *, backward: bool) -> None:
    asked = query(MANY)
    place = orders.Position("User", resource_id(4000), None)
    after = asked.order.after(place, backward=backward)
    condition = predicates.conjunction(asked.condition, after)
    order = asked.order.by(backward=backward)
    nodes = await explained(url, MANY, resources.statement(MANY, asked, condition, order, 11, 0))
    assert any(node.get("Index Name") == "resources_pkey" for node in nodes)
    assert not any(node["Node Type"] == "Sort" for node in nodes)
    assert looked_at(nodes) <= 11


async def walk(
    database: databases.Database, asked: resources.Query, size: int
) -> tuple[list[ids.ResourceId], list[ids.ResourceId]]:
    """Go to the end page by page, and back again; return what was seen on either way, in order."""
    seen: list[list[ids.ResourceId]] = []
    cursor: cursors.Cursor | None = None
    while True:
        page = await resources.page_from(database, FEW, asked, cursor, size)
        seen.append([one.stored.id for one in page.resources])
        assert len(seen) <= len(NAMES) * 2, "the pages go in circles"
        first = page.positions[0]
        if not page.more:
            break
        cursor = cursors.Cursor(page.positions[-1], backward=False)
    there = [one for listed in seen for one in listed]
    back = [seen[-1]]
    while True:
        page = await resources.page_from(database, FEW, asked, cursors.Cursor(first, backward=True), size)
        if page.resources:
            back.insert(0, [one.stored.id for one in page.resources])
            assert len(back) <= len(seen), "the pages go in circles"
            first = page.positions[0]
        if not page.more:
            return there, [one for listed in back for one in listed]


def key_of(reference: references.AttributeReference, one: snapshots.Stored) -> Any:
    """Find the value that a resource is sorted by (RFC 7644 §3.4.2.3)."""
    holder = one.document if reference.urn is None else one.document.get(reference.urn, {})
    held = holder.get(reference.attribute.name)
    if isinstance(held, list):
        held = next((item for item in held if isinstance(item, dict) and item.get("primary")), held[0])
    if reference.sub_attribute is not None and held is not None:
        held = held.get(reference.sub_attribute.name)
    return documents.fold(reference.target, held) if isinstance(held, str) else held


@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize(
    "name",
    [
        "userName", "title", "externalId", "active", "name.familyName", "emails.value", "emails.primary",
        "department", "manager.value", "nickName",
    ],
)  # fmt: skip
async def test_pages_follow_the_order_of_the_value_and_then_of_the_id(
    url: str, name: str, *, descending: bool
) -> None:
    reference = references.resolve(name, USER)
    assert reference is not None
    people = [one for one in few().inserted if one.type == "User"]
    keys = {one.id: key_of(reference, one) for one in people}
    filler = False if name == "active" else ""
    expected = sorted(
        keys,
        key=lambda one: (keys[one] is None, filler if keys[one] is None else keys[one], one),
        reverse=descending,
    )
    asked = query(FEW, order=sorted_by(name, USER, descending=descending))
    async with databases.Database(url) as database:
        page = await resources.page(database, FEW, asked, offset=0, limit=100)
        assert [one.stored.id for one in page.resources] == expected
        assert await walk(database, asked, 5) == (expected, expected)


async def test_pages_by_cursor_hold_what_the_filter_matches_and_count_all_of_it(url: str) -> None:
    asked = query(FEW, text="title pr and not (active eq true)", order=sorted_by("title", USER))
    async with databases.Database(url) as database:
        whole = await resources.page(database, FEW, asked, offset=0, limit=100)
        there, back = await walk(database, asked, 4)
        first = await resources.page_from(database, FEW, asked, None, 4)
    assert [one.stored.id for one in whole.resources] == there == back
    assert (first.total, first.more) == (len(there), True)


async def test_members_and_groups_sort_by_the_first_of_them(url: str) -> None:
    async with databases.Database(url) as database:
        by_member = query(FEW, GROUP, order=sorted_by("members.value", GROUP))
        page = await resources.page(database, FEW, by_member, offset=0, limit=100)
        assert [one.stored.id for one in page.resources] == [resource_id(n) for n in (41, 42, 43, 44, 40)]
        by_group = query(FEW, order=sorted_by("groups.display", USER))
        page = await resources.page(database, FEW, by_group, offset=0, limit=5)
        assert [one.stored.id for one in page.resources][:4] == [resource_id(n) for n in (1, 2, 0, 3)]


class Busy:
    """A tenant whose users are written while others read; one that is there stays what it was made as."""

    def __init__(self, url: str) -> None:
        self.tenant = ids.TenantId(uuid.uuid4())
        self._connection = psycopg.connect(databases.conninfo(url, statement_timeout=5, application="test"))
        self._held: dict[int, snapshots.Stored] = {}

    def __enter__(self) -> Busy:
        with self._connection.transaction():
            self._connection.execute(*databases.set_tenant(self.tenant))
            self._connection.execute(
                "INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', %s)",
                (self.tenant, str(self.tenant)),
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def write(self, *deleted: int, **bodies: dict[str, Any]) -> None:
        """Write one batch: users by their numbers (`u7`), whether they are there or not, and deletions."""
        writes = units.Writes(deleted=[self._held.pop(number) for number in deleted])
        for name, body in bodies.items():
            number = int(name.removeprefix("u"))
            before, after = self._held.get(number), stored(USER, number, **body)
            self._held[number] = after
            if before is None:
                writes.inserted.append(after)
            else:
                writes.before[after.id] = before
                writes.updated.append(dataclasses.replace(after, version=before.version + 1))
        with self._connection.transaction():
            self._connection.execute(*databases.set_tenant(self.tenant))
            rows = Jsonb(rowsets.derive(REGISTRY, writes, {}))
            self._connection.execute(batches.APPLY, (self.tenant, NOW, rows))


def person(number: int, **more: str) -> dict[str, Any]:
    """Make a user whose names are in no order of its number."""
    name = f"{number * 7 % 100:02}"
    return {"userName": f"{name}@x.io"} | ({"title": name} if number % 4 else {}) | more


async def scan(
    database: databases.Database,
    tenant: ids.TenantId,
    asked: resources.Query,
    meanwhile: Callable[[int], None],
    start: cursors.Cursor | None = None,
) -> list[int]:
    """Read page by page until there is no other, from a cursor if there is one; list the numbers seen."""
    seen: list[int] = []
    cursor, backward = start, start is not None and start.backward
    for turn in range(100):
        page = await resources.page_from(database, tenant, asked, cursor, 4)
        seen += [one.stored.id.int - 1000 for one in page.resources]
        if not page.more:
            return seen
        cursor = cursors.Cursor(page.positions[0 if backward else -1], backward)
        meanwhile(turn)
    raise AssertionError("the pages go in circles")


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("descending", [False, True], ids=["ascending", "descending"])
@pytest.mark.parametrize("name", [None, "userName", "title", "meta.created"])
async def test_what_is_there_throughout_is_seen_once_while_others_are_written(
    url: str, name: str | None, *, descending: bool, backward: bool
) -> None:
    order = orders.BY_ID if name is None else sorted_by(name, USER, descending=descending)
    steady, others = list(range(0, 90, 3)), list(range(1, 90, 3))
    with Busy(url) as busy:
        busy.write(**{f"u{number}": person(number) for number in [*steady, *others]})

        def meanwhile(turn: int) -> None:
            # Everywhere, so also right before and after the place that the cursor holds.
            new = {f"u{n}": person(n) for n in range(2 + 3 * turn, 90, 30)}
            moved = {
                f"u{n}": person(n, userName=f"{turn}.{n}@y.io", title=f"{turn}") for n in others[turn::9]
            }
            elsewhere = {f"u{n}": person(n, nickName=f"{turn}") for n in steady[turn % 3 :: 5]}
            busy.write(**new, **moved, **elsewhere)
            if others:
                busy.write(others.pop())

        async with databases.Database(url) as database:
            asked = query(busy.tenant, order=order)
            if backward:
                whole = await resources.page(database, busy.tenant, asked, offset=0, limit=100)
                last = whole.resources[-1].stored.id.int - 1000
                start = cursors.Cursor(whole.positions[-1], backward=True)
                seen = [last, *await scan(database, busy.tenant, asked, meanwhile, start)]
            else:
                seen = await scan(database, busy.tenant, asked, meanwhile)
    assert sorted(number for number in seen if number % 3 == 0) == steady
    assert any(number % 3 == 2 for number in seen), "nothing was written where the reader was yet to come"


async def test_what_moves_in_the_order_meanwhile_is_seen_twice_or_not_at_all(url: str) -> None:
    with Busy(url) as busy:
        busy.write(**{f"u{n}": {"userName": f"{n}@x.io", "title": f"{n:02}"} for n in range(10, 30)})

        def meanwhile(turn: int) -> None:
            if turn == 0:  # 10 was on the first page, 29 would be on the last one
                busy.write(
                    u10={"userName": "10@x.io", "title": "99"}, u29={"userName": "29@x.io", "title": "00"}
                )

        async with databases.Database(url) as database:
            asked = query(busy.tenant, order=sorted_by("title", USER))
            assert await scan(database, busy.tenant, asked, meanwhile) == [*range(10, 29), 10]


async def test_a_page_back_ends_where_the_cursor_is(url: str) -> None:
    asked = query(FEW, text='userName sw "z" or userName sw "ß"', order=sorted_by("userName", USER))
    async with databases.Database(url) as database:
        first = await resources.page_from(database, FEW, asked, None, 2)
        rest = await resources.page_from(
            database, FEW, asked, cursors.Cursor(first.positions[-1], backward=False), 100
        )
        gone = first.resources[0].stored.id
        before = cursors.Cursor(rest.positions[0], backward=True)
        again = await resources.page_from(database, FEW, asked, before, 2)
    assert gone in [one.stored.id for one in again.resources]
    assert not {one.stored.id for one in first.resources} & {one.stored.id for one in rest.resources}


async def test_what_the_service_makes_for_each_answer_can_not_be_compared(url: str) -> None:
    for text in ('meta.location co "x"', "meta[location pr]"):
        with pytest.raises(errors.InvalidFilter, match=r"meta\.location"):
            query(FEW, USER, text)
    with pytest.raises(errors.InvalidFilter, match=r"members.\$ref"):
        query(FEW, GROUP, 'members.$ref ew "1"')
    with pytest.raises(errors.InvalidValue, match=r"meta\.location"):
        sorted_by("meta.location", USER)
