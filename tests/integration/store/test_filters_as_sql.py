"""The SQL of a filter selects what the evaluator says it should: of any document, of all types at once."""

from __future__ import annotations

import datetime
import json
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from random import Random
from typing import Any

import hypothesis
import psycopg
import pytest
from hypothesis import strategies as st
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from usher_api import representations
from usher_core import errors, ids
from usher_core.changes import memberships, snapshots, units
from usher_core.embedded.databases import DatabaseUrls
from usher_core.scim import documents, evaluations, filters, members, projections, references, roots, schemas
from usher_core.store import batches, databases, orders, predicates, resources, rowsets, selections

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
# Names that mean something else to users and groups, of which some are looked up by an index.
CLASH_SCHEMA = schemas.load_schema(
    {
        "id": "urn:x:Clash",
        "name": "Clash",
        "attributes": [
            attribute("title", "integer"), attribute("nickName"), attribute("active"),
            attribute("displayName", "boolean"), attribute("locale", "dateTime"),
            attribute("userName", "integer", uniqueness="server"),
            attribute("userType", multiValued=True), attribute("name"), attribute("roles", multiValued=True),
            attribute("emails", "complex", multiValued=True, subAttributes=[
                attribute("value"), attribute("type", "integer"), attribute("primary", multiValued=True),
            ]),
            attribute("phoneNumbers", "complex", subAttributes=[
                attribute("value", "integer"), attribute("type"),
            ]),
            attribute("members", "complex", multiValued=True, subAttributes=[
                attribute("value", caseExact=True), attribute("display", "integer"),
            ]),
        ],
    }
)  # fmt: skip
CLASH = schemas.ResourceType("Clash", "Clashes", "", CLASH_SCHEMA)
DEFAULT = schemas.default()
USER, GROUP = DEFAULT.by_name("User"), DEFAULT.by_name("Group")
REGISTRY = schemas.Registry(
    (USER, GROUP, GADGET, CLASH), (*DEFAULT.schemas, GADGET_SCHEMA, MORE_SCHEMA, CLASH_SCHEMA)
)
ROOT = roots.everything(REGISTRY)
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
# The same number as both are written, and not as a processor holds the first one.
NEAR = [1.2345678901234568e18, 1234567890123456800]


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
    "integer": lambda random: random.choice([-3, 0, 1, 2, 10, 10**17, 2**63 - 1, -(2**63)]),
    "decimal": lambda random: random.choice(
        [-0.5, 0, 0.1, 1, 1.0, 1.5, 10.0, 2.5e-7, 1e12, 2**63 - 1, 9.3e18, 1e25, 10**25, *NEAR]
    ),
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
            body[described.name] = number if described.type == "integer" else f"{word(random)}{number:02}"
    if random.random() < 0.5:
        body["externalId"] = word(random)
    return body


def directory(random: Random, *kinds: schemas.ResourceType) -> units.Writes:
    """Make resources of some types, and memberships among them, as a batch would write them.

    Of a single type most of them are.
    """
    if len(kinds) == 1:
        kinds = (*kinds * 2, GROUP if kinds[0] is USER else USER)
    writes = units.Writes()
    for number, resource_id in enumerate(IDS):
        shown = kinds[number % len(kinds)]
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


REFERENCES = {kind.name: references_in(kind) for kind in (*REGISTRY.resource_types, ROOT)}


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
    connection: psycopg.Connection[TupleRow], wanted: Mapping[schemas.ResourceType, filters.Filter | None]
) -> set[uuid.UUID]:
    condition = predicates.over(TENANT, wanted)
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
                assert selected(app, {kind: wanted}) == should, text

    agree()


def at_the_root(document: dict[str, Any]) -> dict[str, Any]:
    """Leave of a document what its names mean at the root, and add all of it under its schema's URN."""
    kind = REGISTRY.by_name(document["meta"]["resourceType"])
    kept = {}
    for name, held in document.items():
        mine, everyones = kind.attribute(name), ROOT.attribute(name)
        if mine is not None and everyones is not None and mine.type == everyones.type:
            listed = [meant(mine, everyones, one) for one in (held if isinstance(held, list) else [held])]
            kept[name] = listed if isinstance(held, list) else listed[0]
    extensions = {urn: held for urn, held in document.items() if urn.startswith("urn:")}
    return kept | extensions | {kind.schema.id: document}


def meant(mine: schemas.Attribute, everyones: schemas.Attribute, element: Any) -> Any:
    """Hide the parts of an element that are of another type; that they are there, they tell."""
    if not isinstance(element, dict):
        return element
    types = {
        name: [one and one.type for one in (mine.sub_attribute(name), everyones.sub_attribute(name))]
        for name in element
    }
    return {
        name if types[name][0] == types[name][1] else f"another {name}": held
        for name, held in element.items()
    }


def test_sql_and_evaluator_agree_on_resources_of_all_types_at_once(
    app: psycopg.Connection[TupleRow],
) -> None:
    read = 0

    @hypothesis.settings(max_examples=60, deadline=None, database=None)
    @hypothesis.given(st.randoms(use_true_random=True))
    def agree(random: Random) -> None:
        nonlocal read
        writes = directory(random, USER, GROUP, CLASH)
        shown = {one.id: show(writes, one) for one in writes.inserted}
        seen = {one: at_the_root(document) for one, document in shown.items()}
        with app.transaction(force_rollback=True):
            app.execute(*databases.set_tenant(TENANT))
            app.execute(batches.APPLY, (TENANT, NOW, Jsonb(rowsets.derive(REGISTRY, writes, {}))))
            for _ in range(25):
                # Values that only another type has are asked for as well.
                text = condition(random, [*seen.values(), *shown.values()], ROOT)
                try:
                    wanted = filters.parse(text, ROOT)
                except errors.InvalidFilter:
                    continue
                read += 1
                should = {one for one, document in seen.items() if evaluations.matches(wanted, document)}
                narrowed = roots.narrow(wanted, REGISTRY.resource_types)
                assert selected(app, narrowed) == should, text

    agree()
    assert read > 1000


@pytest.mark.parametrize("name", ["title", "userName", "emails.type", "urn:x:Clash:title"])
def test_at_the_root_a_value_of_another_type_sorts_nothing(
    app: psycopg.Connection[TupleRow], name: str
) -> None:
    own = {"title": "6", "userName": "6", "emails": [{"type": "6"}]}
    other = {"title": 5, "userName": 5, "emails": [{"type": 5}]}
    writes = units.Writes()
    for kind, resource_id, body in ((USER, IDS[0], own), (CLASH, IDS[1], other)):
        document = documents.normalise(kind, body)
        writes.inserted.append(snapshots.Stored(kind.name, resource_id, 1, document, NOW, NOW))
    reference = references.resolve(name, ROOT)
    assert reference is not None
    order = orders.by_attribute(
        {kind: roots.narrow_reference(reference, kind) for kind in REGISTRY.resource_types}, descending=False
    )
    with app.transaction(force_rollback=True):
        app.execute(*databases.set_tenant(TENANT))
        app.execute(batches.APPLY, (TENANT, NOW, Jsonb(rowsets.derive(REGISTRY, writes, {}))))
        rows = app.execute(
            f"SELECT r.type, {order.shown_key} FROM {order.source.text} ORDER BY {order.by()}".encode(),
            order.source.values,
        ).fetchall()
    # What has no value comes last.
    assert rows == ([("Clash", "5"), ("User", None)] if "urn:" in name else [("User", "6"), ("Clash", None)])


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
