"""The SQL of a filter selects exactly what the evaluator says it should, on any document."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any

import hypothesis
import psycopg
import pytest
from hypothesis import strategies as st
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from usher_api import representations
from usher_core import ids
from usher_core.changes import memberships, snapshots, units
from usher_core.embedded.databases import DatabaseUrls
from usher_core.scim import documents, evaluations, filters, members, projections, references, schemas
from usher_core.store import batches, databases, predicates, resources, rowsets, selections

TENANT = ids.TenantId(uuid.UUID(int=1))
NOW = datetime.datetime(2030, 1, 31, 23, 59, 59, 123_456, tzinfo=datetime.UTC)


def attribute(name: str, type_: str = "string", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_} | more


PARTS = [
    attribute("value"), attribute("code", caseExact=True), attribute("count", "integer"),
    attribute("at", "dateTime"), attribute("primary", "boolean"), attribute("labels", multiValued=True),
]  # fmt: skip
# What the schemas of RFC 7643 leave out: numbers, moments, and many values of simple types.
GADGET_SCHEMA = schemas.load_schema(
    {
        "id": "urn:x:Gadget",
        "name": "Gadget",
        "attributes": [
            attribute("word"), attribute("code", caseExact=True), attribute("flag", "boolean"),
            attribute("count", "integer"), attribute("ratio", "decimal"), attribute("when", "dateTime"),
            attribute("blob", "binary", caseExact=True),
            attribute("words", multiValued=True), attribute("codes", multiValued=True, caseExact=True),
            attribute("counts", "integer", multiValued=True),
            attribute("times", "dateTime", multiValued=True),
            attribute("unique", uniqueness="server"),
            attribute("part", "complex", subAttributes=PARTS),
            attribute("parts", "complex", multiValued=True, subAttributes=PARTS),
        ],
    }
)  # fmt: skip
MORE_SCHEMA = schemas.load_schema(
    {"id": "urn:x:%s:More", "name": "More", "attributes": [
        attribute("shade"), attribute("shades", multiValued=True),
        attribute("piece", "complex", multiValued=True, subAttributes=PARTS),
    ]}
)  # fmt: skip
GADGET = schemas.ResourceType("Gadget", "Gadgets", "", GADGET_SCHEMA, (schemas.Extension(MORE_SCHEMA),))
DEFAULT = schemas.default()
USER, GROUP = DEFAULT.by_name("User"), DEFAULT.by_name("Group")
REGISTRY = schemas.Registry((USER, GROUP, GADGET), (*DEFAULT.schemas, GADGET_SCHEMA, MORE_SCHEMA))
EVERYTHING = {kind.name: projections.parse(None, None, kind) for kind in REGISTRY.resource_types}

# Letters that fold to others, to several, or only once decomposed; and what means something in SQL and JSON.
LETTERS = [
    "a", "A", "b", "ß", "ẞ", "ss", "SS", "É", "é", "E\u0301", "e\u0301", "İ", "i", "I", "\u0131",
    "K", "\u212a", "ﬁ", "fi", "Σ", "ς", "\u03c3", "ᾳ", "\u03b1\u03b9", "\u0345", "Ω", "ω", "ŉ",
    "日", "𐐀", "𐐨", "😀",
    "%", "_", "\\", '"', "'", "$", " ", "\t", "0", "1", "@", ".",
]  # fmt: skip
MOMENTS = [
    "2011-05-13T04:42:34Z", "2011-05-13T06:42:34+02:00", "2011-05-12T05:12:34-23:30", "2011-05-13T04:42:34",
    "2011-05-13T04:42:34.000Z", "2011-05-13T04:42:34.1234569Z", "2011-05-13T04:42:34.123456Z",
    "2011-05-14T04:12:34+23:30", "2012-02-29T23:59:59.9999999Z", "2012-03-01T00:00:00Z",
    "0001-01-01T00:00:00+05:00", "9999-12-31T23:59:59-12:00",
]  # fmt: skip


def word(random: Random) -> str:
    return "".join(random.choices(LETTERS, k=random.choice([0, 1, 1, 2, 2, 3])))


def uri(random: Random) -> str:
    """Refer to a user and, being absolute, to anything outside."""
    rest = "".join(letter for letter in word(random) if letter not in '\\" \t')
    return random.choice(["", f"https://h/Users/x{rest}"])


VALUES: dict[str, Callable[[Random], Any]] = {
    "string": word,
    "reference": uri,
    "binary": lambda random: random.choice(["", "YQ==", "yQ==", "AAAA", "aaaa"]),
    "boolean": lambda random: random.choice([True, False]),
    "integer": lambda random: random.choice([-3, 0, 1, 2, 10, 10**17]),
    "decimal": lambda random: random.choice([-0.5, 0, 0.1, 1, 1.0, 1.5, 10.0, 2.5e-7, 1e12]),
    "dateTime": lambda random: random.choice(MOMENTS),
}
OPERATORS = {
    "string": ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"],
    "reference": ["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"],
    "binary": ["eq", "ne", "co", "sw", "ew"],
    "boolean": ["eq", "ne"],
    "integer": ["eq", "ne", "gt", "ge", "lt", "le"],
    "decimal": ["eq", "ne", "gt", "ge", "lt", "le"],
    "dateTime": ["eq", "ne", "gt", "ge", "lt", "le"],
}
IDS = [ids.ResourceId(uuid.UUID(int=n)) for n in range(100, 112)]


def some_of(random: Random, described: Iterable[schemas.Attribute], share: float) -> dict[str, Any]:
    return {one.name: value_of(random, one) for one in described if random.random() < share}


def value_of(random: Random, described: schemas.Attribute) -> Any:
    def one() -> Any:
        if described.type == "complex":
            return some_of(random, described.sub_attributes.values(), 0.5)
        return VALUES[described.type](random)

    if not described.multi_valued:
        return one()
    listed = [one() for _ in range(random.choice([0, 1, 1, 2, 3]))]
    for later in listed[1:]:
        if isinstance(later, dict):
            later.pop("primary", None)
    return listed


def body_of(random: Random, kind: schemas.ResourceType, number: int) -> dict[str, Any]:
    shown = [
        one for one in kind.schema.attributes.values()
        if one.mutability != "readOnly" and not one.hidden and one.name not in kind.stored_apart
    ]  # fmt: skip
    body = some_of(random, shown, 0.4)
    for extension in kind.extensions:
        body[extension.schema.id] = some_of(random, extension.schema.attributes.values(), 0.4)
    for described in shown:
        if described.required or (described.uniqueness != "none" and described.name in body):
            body[described.name] = f"{word(random)}{number}"
    if random.random() < 0.5:
        body["externalId"] = word(random)
    return body


def directory(random: Random, kind: schemas.ResourceType) -> units.Writes:
    """Make resources, most of them of one type, and memberships among them, as a batch would write them."""
    writes = units.Writes()
    for number, resource_id in enumerate(IDS):
        shown = kind if number < 8 else GROUP if kind is USER else USER
        document = documents.normalise(shown, body_of(random, shown, number))
        modified = NOW + datetime.timedelta(microseconds=random.choice([0, 1, 900]))
        version = random.choice([1, 2])
        writes.inserted.append(snapshots.Stored(shown.name, resource_id, version, document, NOW, modified))
    kinds = {one.id: one.type for one in writes.inserted if one.type in ("User", "Group")}
    for group in writes.inserted:
        if group.type == "Group":
            # Groups among them too, also in circles.
            others = [one for one in kinds if one != group.id]
            joined = random.sample(others, random.choice([0, 1, 2, 3]))
            held = [
                memberships.Member(one, kinds[one], random.choice([None, word(random)])) for one in joined
            ]
            writes.memberships[group.id] = memberships.Membership(
                frozenset(), 0, overrides={one.id: one for one in held}
            )
    return writes


def groups_of(writes: units.Writes, stored: snapshots.Stored) -> list[dict[str, Any]]:
    """List the groups of a resource: those that it is in itself, and those that it is in through them."""
    by_id = {one.id: one for one in writes.inserted}

    def holding(member: ids.ResourceId) -> set[ids.ResourceId]:
        return {group for group, held in writes.memberships.items() if member in held.overrides}

    direct = found = holding(stored.id)
    while beyond := {above for group in found for above in holding(group)} - found:
        found = found | beyond
    return [
        {"value": str(group), "display": by_id[group].document.get("displayName")}
        | ({} if group in direct else {"type": "indirect"})
        for group in found
    ]


def references_in(kind: schemas.ResourceType) -> list[references.AttributeReference]:
    common = (references.resolve(name, kind) for name in (
        "id", "externalId", "schemas", "meta", "meta.resourceType", "meta.created", "meta.lastModified",
        "meta.version",
    ))  # fmt: skip
    known = [one for one in common if one is not None]
    known += [one for one in documents.references_of(kind) if not one.target.hidden]
    known = [one for one in known if not one.path.endswith(("members.$ref", "groups.$ref"))]
    # What is stored in rows is asked for more often: there are more ways to ask.
    return known + 5 * [one for one in known if one.attribute.name in kind.stored_apart | kind.computed]


REFERENCES = {kind.name: references_in(kind) for kind in REGISTRY.resource_types}


def show(writes: units.Writes, stored: snapshots.Stored) -> dict[str, Any]:
    """Make the document that a client would see."""
    groups = groups_of(writes, stored)
    held = writes.memberships.get(stored.id)
    joined = [
        {"value": str(one.id), "type": one.type, "display": one.display}
        for one in (held.overrides.values() if held else ())
        if one is not None
    ]
    kind = REGISTRY.by_name(stored.type)
    presenter = representations.Presenter(REGISTRY, kind, "https://h", EVERYTHING[kind.name])
    return presenter.represent(resources.Resource(stored, groups, joined))


def twisted(target: schemas.Attribute, value: Any) -> list[Any]:
    """List values that are near to one that a document has, and most often that one."""
    if not isinstance(value, str) or not value or target.type == "dateTime":
        return [value]
    return [*[value] * 4, value.swapcase(), value[:-1], value[1:], value.upper(), f"{value}a"]


def comparison(
    random: Random, seen: list[dict[str, Any]], chosen: references.AttributeReference, name: str
) -> str:
    if chosen.target.type == "complex":
        if chosen.sub_attribute is not None or chosen.target.value is None:
            return f"{name} pr"
        chosen = references.AttributeReference(chosen.urn, chosen.attribute, chosen.target.value)
    target = chosen.target
    form = random.randrange(10)
    if form == 0:
        return f"{name} pr"
    if form == 1:
        return f"{name} {random.choice(['eq', 'ne'])} null"
    value = VALUES[target.type](random)
    held = [near for one in seen for found in documents.found(chosen, one) for near in twisted(target, found)]
    if held and random.random() < 0.6:
        value = random.choice(held)
    operator = random.choice([*OPERATORS[target.type], "eq", "eq"])
    return f"{name} {operator} {json.dumps(value, ensure_ascii=False)}"


def condition(
    random: Random, seen: list[dict[str, Any]], kind: schemas.ResourceType,
    scope: references.AttributeReference | None = None, depth: int = 2,
) -> str:  # fmt: skip
    form = random.randrange(10) if depth else 0
    if form >= 7:
        left, right = (condition(random, seen, kind, scope, depth - 1) for _ in range(2))
        return [f"({left} and {right})", f"({left} or {right})", f"not ({left})"][form - 7]
    if scope is not None:
        subs = [
            sub for sub in scope.attribute.sub_attributes.values() if sub.name not in ("$ref", "location")
        ]
        if not subs:
            return comparison(random, seen, scope, "value")
        sub = random.choice(subs)
        inner = references.AttributeReference(scope.urn, scope.attribute, sub)
        return comparison(random, seen, inner, sub.name)
    chosen = random.choice(REFERENCES[kind.name])
    attribute_ = chosen.attribute
    has_elements = chosen.sub_attribute is None and (attribute_.multi_valued or attribute_.type == "complex")
    if has_elements and not attribute_.name.startswith("urn:") and random.random() < 0.6:
        return f"{chosen.path}[{condition(random, seen, kind, chosen, max(depth - 1, 0))}]"
    return comparison(random, seen, chosen, chosen.path)


@pytest.fixture
def app(database_urls: DatabaseUrls) -> Iterator[psycopg.Connection[TupleRow]]:
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
    conninfo = databases.conninfo(database_urls.app, statement_timeout=5, application="test")
    with psycopg.connect(conninfo, autocommit=True) as connection:
        # What a server is set to must make no difference.
        connection.execute("SET timezone = 'Asia/Kolkata'")
        yield connection


def selected(
    connection: psycopg.Connection[TupleRow], kind: schemas.ResourceType, wanted: filters.Filter
) -> set[uuid.UUID]:
    condition = predicates.over(TENANT, {kind: wanted})
    rows = connection.execute(
        f"SELECT r.id FROM resources r WHERE r.tenant = %s AND {condition.text}".encode(),
        (TENANT, *condition.values),
    ).fetchall()
    return {row[0] for row in rows}


@pytest.mark.parametrize("kind", [USER, GROUP, GADGET], ids=lambda kind: kind.name)
def test_sql_and_evaluator_agree_on_every_document(
    app: psycopg.Connection[TupleRow], kind: schemas.ResourceType
) -> None:
    @hypothesis.settings(max_examples=40, deadline=None, database=None)
    @hypothesis.given(st.randoms(use_true_random=True))
    def agree(random: Random) -> None:
        writes = directory(random, kind)
        seen = {one.id: show(writes, one) for one in writes.inserted if one.type == kind.name}
        with app.transaction(force_rollback=True):
            app.execute(*databases.set_tenant(TENANT))
            app.execute(batches.APPLY, (TENANT, NOW, Jsonb(rowsets.derive(REGISTRY, writes, {}))))
            for _ in range(25):
                text = condition(random, list(seen.values()), kind)
                wanted = filters.parse(text, kind)
                should = {one for one, document in seen.items() if evaluations.matches(wanted, document)}
                assert selected(app, kind, wanted) == should, text

    agree()


def test_sql_and_evaluator_select_the_same_members(app: psycopg.Connection[TupleRow]) -> None:
    scope = references.resolve("members", GROUP)
    assert scope is not None

    @hypothesis.settings(max_examples=20, deadline=None, database=None)
    @hypothesis.given(st.randoms(use_true_random=True))
    def agree(random: Random) -> None:
        writes = directory(random, GROUP)
        groups = [one for one in writes.inserted if one.type == "Group"]
        seen = {one.id: show(writes, one) for one in groups}
        with app.transaction(force_rollback=True):
            app.execute(*databases.set_tenant(TENANT))
            app.execute(batches.APPLY, (TENANT, NOW, Jsonb(rowsets.derive(REGISTRY, writes, {}))))
            for _ in range(25):
                text = condition(random, list(seen.values()), GROUP, scope)
                wanted = filters.parse_inside(text, scope, GROUP)
                group = random.choice(groups).id
                [selection] = snapshots.selections(
                    "Group", group, [members.MembersRemovedWhere(wanted)]
                ).values()
                row = app.execute(*selections.statement(TENANT, REGISTRY, selection)).fetchone()
                test = evaluations.element_test(wanted)
                should = {one["value"] for one in seen[group].get("members", []) if test(one)}
                assert row is not None
                assert {str(one) for one in row[0]} == should, text

    agree()
