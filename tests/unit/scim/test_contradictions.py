"""Whether what is stored contradicts other schemas: which types to look at, and what stands in a document."""

from __future__ import annotations

from typing import Any

import pytest

from usher_core.scim import contradictions, documents, registries, schemas

DEVICE = "urn:example:scim:schemas:1.0:Device"
MORE = "urn:example:scim:schemas:1.0:More"
ATTRIBUTES: dict[str, dict[str, Any]] = {
    "name": {"required": True},
    "serial": {"uniqueness": "server"},
    "size": {"type": "integer"},
    "label": {"multiValued": True},
    "owner": {"type": "reference", "referenceTypes": ["User", "Group"]},
    "part": {
        "type": "complex",
        "multiValued": True,
        "subAttributes": [{"name": "value"}, {"name": "n", "type": "integer"}],
    },
}
EXTRA: dict[str, dict[str, Any]] = {"shade": {}, "flag": {"type": "boolean"}}
DOCUMENT = {
    "name": "Ada's", "serial": "A1", "size": 7, "label": ["x"], "owner": "Groups/9", "externalId": "e",
    "part": [{"value": "v", "n": 1}], MORE: {"shade": "red", "flag": True},
}  # fmt: skip


def registry(
    attributes: dict[str, Any] | None = None, extra: dict[str, Any] | None = None, *, required: bool = False,
    endpoint: str = "/Devices",
) -> schemas.Registry:  # fmt: skip
    """Make the registry with some attributes otherwise; `None` in an attribute's place leaves it out."""

    def listed(base: dict[str, Any], changed: dict[str, Any] | None) -> list[Any]:
        found = {
            name: {**base.get(name, {}), **(more or {})} for name, more in {**base, **(changed or {})}.items()
        }
        gone = {name for name, more in (changed or {}).items() if more is None}
        return [{"name": name, **more} for name, more in found.items() if name not in gone]

    return registries.build(
        [
            {"id": DEVICE, "attributes": listed(ATTRIBUTES, attributes)},
            {"id": MORE, "attributes": listed(EXTRA, extra)},
            {
                "name": "Device",
                "endpoint": endpoint,
                "schema": DEVICE,
                "schemaExtensions": [{"schema": MORE, "required": required}],
            },
        ],
        1,
    )


BASE = registry()
STORED = documents.normalise(BASE.by_name("Device"), DOCUMENT)


def found(after: schemas.Registry, document: dict[str, Any] = STORED) -> list[tuple[str, str]]:
    kind = after.by_name("Device")
    return [(one.attribute, one.reason) for one in contradictions.find(kind, document)]


def affected(after: schemas.Registry, before: schemas.Registry = BASE) -> list[str]:
    return [kind.name for kind in contradictions.affected(before, after)]


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(BASE, id="the same"),
        pytest.param(registry({"more": {}}), id="an attribute more"),
        pytest.param(registry({"more": {"uniqueness": "server"}}), id="a unique attribute more"),
        pytest.param(registry({"size": {"description": "How big"}}), id="another description"),
        pytest.param(registry({"size": {"canonicalValues": ["7"]}}), id="other hints"),
        pytest.param(registry({"name": {"caseExact": True}}), id="case of what is not unique"),
        pytest.param(registry({"name": {"mutability": "immutable"}}), id="immutable from now on"),
        pytest.param(registry({"label": {"returned": "request"}}), id="shown less"),
        pytest.param(registry({"serial": {"uniqueness": "global"}}), id="unique all the same"),
        pytest.param(registry(extra={"more": {}}), id="an attribute more in an extension"),
    ],
)
def test_what_only_gives_more_room_needs_no_look(after):
    assert affected(after) == []
    assert found(after) == []


@pytest.mark.parametrize(
    ("after", "told"),
    [
        pytest.param(registry({"size": None}), [("size", "is no attribute")], id="gone"),
        pytest.param(
            registry({"size": {"name": "Size"}}), [("size", "is called Size")], id="another case of the name"
        ),
        pytest.param(
            registry({"more": {"required": True}}),
            [("more", "is required and missing")],
            id="required and new",
        ),
        pytest.param(
            registry({"size": {"type": "string"}}), [("size", "must be a string, not a number")], id="type"
        ),
        pytest.param(
            registry({"name": {"type": "dateTime"}}),
            [("name", "must be a date and time such as 2030-01-31T23:59:59Z")],
            id="text to moment",
        ),
        pytest.param(
            registry({"label": {"multiValued": False}}),
            [("label", "must be a string, not an array")],
            id="single",
        ),
        pytest.param(registry({"name": {"multiValued": True}}), [("name", "is of another form")], id="many"),
        pytest.param(
            registry({"size": {"returned": "never"}}),
            [("size", "is never returned, so nothing is kept of it")],
            id="never returned",
        ),
        pytest.param(
            registry({"size": {"mutability": "readOnly"}}),
            [("size", "is read-only, so nobody could have given it")],
            id="read-only",
        ),
        pytest.param(
            registry({"owner": {"referenceTypes": ["User"]}}),
            [("owner", "must refer to a resource of type User")],
            id="reference types",
        ),
        pytest.param(
            registry({"part": {"subAttributes": [{"name": "value"}]}}),
            [("part", "is of another form")],
            id="sub-attribute gone",
        ),
        pytest.param(
            registry(
                {
                    "part": {
                        "subAttributes": [
                            {"name": "value"},
                            {"name": "n", "type": "integer"},
                            {"name": "at", "required": True},
                        ]
                    }
                }
            ),
            [("part", "at is required")],
            id="sub-attribute required",
        ),
        pytest.param(
            registry(extra={"flag": {"type": "string"}}),
            [(f"{MORE}:flag", "must be a string, not a boolean")],
            id="in an extension",
        ),
        pytest.param(
            registry(extra={"more": {"required": True}}),
            [(f"{MORE}:more", "is required and missing")],
            id="required in an extension",
        ),
        pytest.param(
            registry({"size": None, "label": None}),
            [("size", "is no attribute"), ("label", "is no attribute")],
            id="several",
        ),
    ],
)
def test_what_stands_against_other_schemas_is_named_without_a_value(after, told):
    assert affected(after) == ["Device"]
    assert found(after) == told


def test_a_required_extension_that_a_document_lacks():
    without = {name: value for name, value in STORED.items() if name != MORE}
    assert affected(registry(required=True)) == ["Device"]
    assert found(registry(required=True), without) == [(MORE, "is required and missing")]


def test_an_extension_that_a_document_has_may_not_go():
    after = registries.build(
        [document for document in registries.dump(BASE) if document["id"] not in (MORE, "Device")]
        + [{"name": "Device", "endpoint": "/Devices", "schema": DEVICE}],
        2,
    )
    assert affected(after) == ["Device"]
    assert found(after) == [(MORE, "is no extension of the resource type")]


def test_a_resource_type_that_goes_is_looked_at():
    assert affected(schemas.default()) == ["Device"]


def test_ours_are_looked_at_only_for_what_is_added_to_them():
    users = {"name": "User", "endpoint": "/Users", "schema": schemas.USER}
    more = registries.dump(BASE)
    for required, told in ((False, []), (True, ["User"])):
        extended = users | {"schemaExtensions": [{"schema": MORE, "required": required}]}
        assert affected(registries.build([*more, extended], 2)) == told


def test_where_a_type_is_served_matters_to_what_refers_to_it():
    def having(endpoint: str) -> schemas.Registry:
        rooms = {"id": "urn:example:Room", "attributes": [
            {"name": "next", "type": "reference", "referenceTypes": ["Room"]}]}  # fmt: skip
        kind = {"name": "Room", "endpoint": endpoint, "schema": "urn:example:Room"}
        return registries.build([rooms, kind], 1)

    assert affected(having("/Places"), having("/Rooms")) == ["Room"]
    document = {"schemas": ["urn:example:Room"], "next": "Rooms/1"}
    assert [one.attribute for one in contradictions.find(having("/Places").by_name("Room"), document)] == [
        "next"
    ]


def test_uniqueness_and_its_case_are_looked_at():
    assert affected(registry({"name": {"uniqueness": "server"}})) == ["Device"]
    assert affected(registry({"serial": {"caseExact": True}})) == ["Device"]


def test_what_no_index_could_hold_stands_against_uniqueness():
    long = STORED | {"name": "x" * 2000}
    assert found(registry({"name": {"uniqueness": "server"}}), long) == [
        ("name", "is longer than 1024 bytes")
    ]
