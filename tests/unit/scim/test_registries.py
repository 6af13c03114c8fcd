"""A tenant's own schemas and resource types, beside ours: what is taken, and what is refused by name."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from usher_core import errors
from usher_core.scim import registries, schemas

DEVICE = "urn:example:scim:schemas:1.0:Device"
BADGE = "urn:example:scim:schemas:extension:badge:1.0:User"

DEVICES: dict[str, Any] = {
    "schemas": [schemas.SCHEMA],
    "id": DEVICE,
    "name": "Device",
    "attributes": [
        {"name": "displayName", "required": True},
        {"name": "serial", "uniqueness": "server", "caseExact": True},
        {"name": "owner", "type": "reference", "referenceTypes": ["User", "Device"]},
        {"name": "parts", "type": "complex", "multiValued": True, "subAttributes": [{"name": "value"}]},
    ],
}
BADGES: dict[str, Any] = {"id": BADGE, "attributes": [{"name": "number", "type": "integer"}]}
KIND: dict[str, Any] = {"name": "Device", "endpoint": "/Devices", "schema": DEVICE}
USERS: dict[str, Any] = {
    "name": "User", "endpoint": "/Users", "schema": schemas.USER, "schemaExtensions": [{"schema": BADGE}],
}  # fmt: skip


def parse(*documents: Any) -> list[dict[str, Any]]:
    texts = {f"{n}.json": json.dumps(document).encode() for n, document in enumerate(documents)}
    return registries.parse(texts)


def build(*documents: Any) -> schemas.Registry:
    return registries.build(parse(*documents), 7)


def test_a_tenant_has_its_own_beside_ours():
    registry = build(DEVICES, BADGES, [KIND, USERS])
    assert [kind.name for kind in registry.resource_types] == ["User", "Group", "Device"]
    assert registry.by_endpoint("Devices").schema.id == DEVICE
    assert len(registry.schemas) == 8
    assert registry.version == 7


def test_a_user_keeps_its_extensions_and_gets_more():
    kind = build(BADGES, USERS).by_name("User")
    assert [one.schema.id for one in kind.extensions] == [schemas.ENTERPRISE_USER, BADGE]
    assert kind.computed == {"groups"}


def test_an_extension_of_ours_can_be_asked_for():
    users = USERS | {"schemaExtensions": [{"schema": schemas.ENTERPRISE_USER, "required": True}]}
    assert [one.required for one in build(users).by_name("User").extensions] == [True]


def test_a_group_with_more_still_keeps_its_members_apart():
    groups = {"name": "Group", "endpoint": "/Groups", "schema": schemas.GROUP,
              "schemaExtensions": [{"schema": BADGE}]}  # fmt: skip
    assert build(BADGES, groups).by_name("Group").stored_apart == {"members"}


def test_nothing_of_a_tenants_own_is_ours_itself():
    assert registries.build([], 0) is schemas.default()
    assert parse([]) == []


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param([DEVICES, KIND], id="one a file"),
        pytest.param([[KIND, DEVICES]], id="a list, in any order"),
        pytest.param(
            [
                {
                    "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
                    "totalResults": 2,
                    "Resources": [DEVICES, KIND],
                }
            ],
            id="as discovery answers",
        ),
        pytest.param([DEVICES | {"comment": 1}, KIND | {"meta": {}, "id": "x"}], id="with what is not known"),
    ],
)
def test_the_same_definitions_have_one_canonical_form(documents):
    assert parse(*documents) == parse(DEVICES, KIND)


def test_what_was_parsed_is_parsed_to_the_same():
    documents = parse(DEVICES, BADGES, KIND, USERS)
    assert parse(documents) == documents


def test_a_schema_that_no_resource_type_has_is_known_and_told():
    registry = build(DEVICES, BADGES, KIND)
    assert registry.by_schema(BADGE).id == BADGE
    assert registries.unused(registry) == [BADGE]


def attribute(**more: Any) -> list[Any]:
    return [DEVICES | {"attributes": [{"name": "a"} | more]}, KIND]


def kind(**more: Any) -> list[Any]:
    return [DEVICES, BADGES, KIND | more]


@pytest.mark.parametrize(
    ("documents", "named"),
    [
        pytest.param(["x"], "0.json: a schema or resource type must be a JSON object", id="no object"),
        pytest.param([{"name": "x"}], "0.json: neither a schema nor a resource type", id="neither"),
        pytest.param([DEVICES | {"id": "Device"}], "id must be a URN", id="no URN"),
        pytest.param([DEVICES | {"id": "urn:x"}], "id must be a URN", id="half a URN"),
        pytest.param([DEVICES | {"id": "urn:example:a b"}], "id must be a URN", id="URN with a blank"),
        pytest.param([DEVICES | {"id": "urn:example:a/b"}], "id must be a URN", id="URN with a slash"),
        pytest.param([DEVICES | {"id": f"urn:example:{'x' * 200}"}], "200 characters", id="URN too long"),
        pytest.param([DEVICES | {"id": schemas.USER}], "one of ours", id="ours again"),
        pytest.param([DEVICES | {"id": schemas.USER.upper()}], "one of ours", id="ours in another case"),
        pytest.param([DEVICES, DEVICES | {"id": DEVICE.lower()}, KIND], "defined twice", id="twice"),
        pytest.param(
            [DEVICES, KIND, BADGES | {"id": f"{DEVICE}:Serial"}],
            "name of an attribute of",
            id="an attribute's name",
        ),
        pytest.param(
            [DEVICES | {"id": "urn:ietf:params:scim:api:messages:2.0:Thing"}],
            "message",
            id="a message's name",
        ),
        pytest.param(attribute(name="Id"), f"{DEVICE}:Id: every resource has this", id="common"),
        pytest.param(attribute(name="externalID"), "every resource has this", id="common in another case"),
        pytest.param(attribute(name="a.b"), "'a.b' is no name", id="name"),
        pytest.param(attribute(name="1a"), "'1a' is no name", id="name with a digit first"),
        pytest.param(attribute(name="$ref"), "only a sub-attribute", id="$ref at the top"),
        pytest.param(attribute(name="x" * 65), "at most 64", id="name too long"),
        pytest.param(attribute(type="text"), f"{DEVICE}:a: type", id="type"),
        pytest.param(
            attribute(type="complex", subAttributes=[{"name": "b", "type": "complex"}]),
            "a.b",
            id="complex in complex",
        ),
        pytest.param(attribute(type="complex"), "a: subAttributes", id="complex of nothing"),
        pytest.param(
            [DEVICES | {"attributes": [{"name": "a"}, {"name": "A"}]}],
            "A is defined twice",
            id="attribute twice",
        ),
        pytest.param(
            attribute(type="reference", referenceTypes=["Printer"]),
            "Printer is no resource type",
            id="unknown type",
        ),
        pytest.param(
            attribute(referenceTypes=["User"]), "only an attribute of type reference", id="not a reference"
        ),
        pytest.param(
            attribute(type="boolean", uniqueness="server"),
            "of type boolean are not kept",
            id="unique boolean",
        ),
        pytest.param(attribute(type="decimal", uniqueness="global"), "of type decimal", id="unique decimal"),
        pytest.param(attribute(type="dateTime", uniqueness="server"), "of type dateTime", id="unique moment"),
        pytest.param(
            attribute(type="complex", uniqueness="server", subAttributes=[{"name": "b"}]),
            "type complex",
            id="unique complex",
        ),
        pytest.param(
            attribute(returned="never", uniqueness="server"), "can't be unique", id="unique and never kept"
        ),
        pytest.param(
            [DEVICES | {"attributes": [{"name": f"a{n}"} for n in range(501)]}],
            "more than 500",
            id="too many attributes",
        ),
        pytest.param(
            [[{"id": f"urn:example:{n}", "attributes": [{"name": "a"}]} for n in range(51)]],
            "more than 50 schemas",
            id="too many schemas",
        ),
        pytest.param(
            [DEVICES, [KIND | {"name": f"D{n}", "endpoint": f"/D{n}"} for n in range(51)]],
            "more than 50 resource types",
            id="too many resource types",
        ),
        pytest.param(kind(name="my device"), "its name must be of letters", id="type's name"),
        pytest.param(
            [*kind(name="device", endpoint="/Other"), KIND], "of this name already", id="type twice"
        ),
        pytest.param(kind(endpoint="/Users"), "the endpoint /Users is that of User", id="endpoint of ours"),
        pytest.param(kind(endpoint="/users"), "is that of User", id="endpoint of ours in another case"),
        pytest.param(kind(endpoint="/Bulk"), "the protocol's own", id="endpoint of the protocol"),
        pytest.param(kind(endpoint="/serviceproviderconfig"), "the protocol's own", id="discovery"),
        pytest.param(kind(endpoint="/a/b"), "a slash and one word", id="endpoint of two words"),
        pytest.param(kind(endpoint="/.search"), "a slash and one word", id="endpoint that searches"),
        pytest.param(kind(schema="urn:example:none"), "urn:example:none is not known", id="unknown schema"),
        pytest.param(kind(schema=schemas.USER), "resource types of ours only", id="users elsewhere"),
        pytest.param(kind(schema=schemas.GROUP), "resource types of ours only", id="groups elsewhere"),
        pytest.param(
            kind(schemaExtensions=[{"schema": schemas.USER}]), "is no extension", id="users as extension"
        ),
        pytest.param(kind(schemaExtensions=[{"schema": DEVICE}]), "named twice", id="extends itself"),
        pytest.param(kind(schemaExtensions=[{"schema": BADGE}] * 2), "named twice", id="extension twice"),
        pytest.param(
            [DEVICES, KIND, USERS | {"schema": DEVICE, "schemaExtensions": []}],
            "can only be extended",
            id="users of another form",
        ),
        pytest.param(
            [BADGES, USERS | {"endpoint": "/People"}], "can only be extended", id="users at another place"
        ),
        pytest.param([BADGES, [USERS, USERS]], "User: it is described twice", id="users twice"),
        pytest.param([DEVICES | {"description": "a\0"}, KIND], "NUL", id="what can't be stored"),
    ],
)
def test_what_cannot_be_obeyed_is_refused_and_named(documents, named):
    with pytest.raises(errors.InvalidValue) as caught:
        parse(*copy.deepcopy(documents))
    assert named in caught.value.detail


def test_the_file_and_the_attribute_are_named():
    with pytest.raises(errors.InvalidValue) as caught:
        parse(BADGES, DEVICES | {"attributes": [{"name": "a", "type": "text"}]})
    assert caught.value.detail.startswith(f"1.json: {DEVICE}:a: type must be")


@pytest.mark.parametrize("text", [b"", b"{", b"\xff"], ids=["empty", "half", "no text"])
def test_what_is_no_json_is_told_with_its_file(text):
    with pytest.raises(errors.InvalidValue, match=r"^device\.json: no valid JSON"):
        registries.parse({"device.json": text})


def test_files_may_not_be_endless():
    with pytest.raises(errors.InvalidValue, match="at most 1048576"):
        registries.parse({"a": b" " * 600_000, "b": b" " * 600_000})
