"""Schemas and resource types: ours, and those that a tenant brings."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from usher_core import errors
from usher_core.scim import schemas

BADGES = "urn:example:scim:schemas:extension:badges:1.0:User"


def badge_schema() -> dict[str, Any]:
    return {
        "id": BADGES,
        "name": "Badges",
        "attributes": [
            {"name": "number", "type": "integer", "uniqueness": "server", "required": True},
            {"name": "issued", "type": "dateTime", "mutability": "immutable"},
            {"name": "tags", "type": "string", "multiValued": True, "caseExact": True},
            {
                "name": "doors",
                "type": "complex",
                "multiValued": True,
                "subAttributes": [{"name": "value", "required": True}, {"name": "weight", "type": "decimal"}],
            },
        ],
    }


def test_the_default_registry_has_users_and_groups():
    registry = schemas.default()
    assert [r.name for r in registry.resource_types] == ["User", "Group"]
    assert registry.by_endpoint("Users") is registry.by_name("User")
    assert len(registry.schemas) == 6


def test_the_default_registry_is_loaded_once():
    assert schemas.default() is schemas.default()


@pytest.mark.parametrize("endpoint", ["users", "/Users", "User", ""])
def test_an_endpoint_is_known_by_its_exact_name_only(endpoint):
    with pytest.raises(errors.NotFound):
        schemas.default().by_endpoint(endpoint)


def test_an_unknown_resource_type_or_schema_is_not_found():
    with pytest.raises(errors.NotFound):
        schemas.default().by_name("Device")
    with pytest.raises(errors.NotFound):
        schemas.default().by_schema("urn:example:none")


def test_a_schema_is_found_by_its_urn_in_any_case():
    assert schemas.default().by_schema(schemas.USER.upper()).id == schemas.USER


@pytest.mark.parametrize("name", ["userName", "USERNAME", "username"])
def test_attributes_are_found_in_any_case(name):
    assert schemas.default().by_name("User").attribute(name).name == "userName"


def test_user_name_is_required_unique_and_without_case():
    user_name = schemas.default().by_name("User").attribute("userName")
    assert (user_name.required, user_name.uniqueness, user_name.case_exact) == (True, "server", False)


def test_common_attributes_are_known_though_no_schema_lists_them():
    user = schemas.default().by_name("User")
    assert user.attribute("externalid").case_exact
    assert user.attribute("id").returned == "always"
    assert user.attribute("meta").sub_attribute("lastmodified").type == "dateTime"
    assert user.schema.attribute("id") is None


def test_only_the_members_of_groups_are_stored_apart():
    registry = schemas.default()
    assert registry.by_name("Group").stored_apart == {"members"}
    assert registry.by_name("User").stored_apart == frozenset()


@pytest.mark.parametrize("schema", schemas.default().schemas, ids=lambda schema: schema.name)
def test_a_schema_written_and_read_is_the_same(schema):
    assert schemas.load_schema(schemas.dump_schema(schema)) == schema


def test_missing_characteristics_have_the_defaults_of_the_rfc():
    attribute = schemas.load_schema({"id": "urn:x", "attributes": [{"name": "a"}]}).attribute("a")
    assert attribute == schemas.Attribute("a", "string")


def test_a_schema_is_frozen():
    with pytest.raises(AttributeError):
        schemas.default().schemas[0].id = "urn:x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param(lambda d: d.pop("id"), "id", id="no id"),
        pytest.param(lambda d: d.update(id="Badges"), "id must be a URN", id="id is no URN"),
        pytest.param(lambda d: d.update(attributes=[]), "attributes", id="no attributes"),
        pytest.param(lambda d: d.update(attributes="x"), "attributes", id="attributes no list"),
        pytest.param(lambda d: d["attributes"].append(1), "attribute", id="attribute no object"),
        pytest.param(lambda d: d["attributes"].append({"name": "Number"}), "Number", id="twice"),
        pytest.param(lambda d: d["attributes"][0].update(name="a b"), "a b", id="name"),
        pytest.param(lambda d: d["attributes"][0].update(name=7), "name", id="name no string"),
        pytest.param(lambda d: d["attributes"][0].update(type="text"), "number: type", id="type"),
        pytest.param(
            lambda d: d["attributes"][0].update(type=["string"]), "number: type", id="type no string"
        ),
        pytest.param(lambda d: d["attributes"][0].update(required="yes"), "number: required", id="flag"),
        pytest.param(lambda d: d["attributes"][0].update(mutability="rw"), "mutability", id="mutability"),
        pytest.param(lambda d: d["attributes"][0].update(canonicalValues=[1]), "canonicalValues", id="canon"),
        pytest.param(lambda d: d["attributes"][3].pop("subAttributes"), "doors: subAttributes", id="no subs"),
        pytest.param(
            lambda d: d["attributes"][3]["subAttributes"].append(
                {"name": "deep", "type": "complex", "subAttributes": [{"name": "x"}]}
            ),
            "doors.deep",
            id="complex in complex",
        ),
    ],
)
def test_a_faulty_schema_is_refused_and_the_fault_named(change, named):
    document = copy.deepcopy(badge_schema())
    change(document)
    with pytest.raises(errors.InvalidValue) as caught:
        schemas.load_schema(document)
    assert named in caught.value.detail


def test_a_resource_type_of_a_tenant_is_loaded():
    badges = schemas.load_schema(badge_schema())
    user = schemas.default().by_schema(schemas.USER)
    loaded = schemas.load_resource_type(
        {
            "name": "Guest",
            "endpoint": "/Guests",
            "schema": schemas.USER,
            "schemaExtensions": [{"schema": BADGES, "required": True}],
        },
        {schemas.USER: user, BADGES: badges},
    )
    assert (loaded.name, loaded.endpoint, loaded.extensions[0].required) == ("Guest", "Guests", True)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(None, id="no object"),
        pytest.param({"name": "Guest", "schema": schemas.USER}, id="no endpoint"),
        pytest.param({"name": "Guest", "endpoint": "/G", "schema": "urn:x"}, id="unknown schema"),
        pytest.param(
            {"name": "Guest", "endpoint": "/G", "schema": schemas.USER, "schemaExtensions": [1]},
            id="extensions no objects",
        ),
    ],
)
def test_a_faulty_resource_type_is_refused(document):
    with pytest.raises(errors.InvalidValue):
        schemas.load_resource_type(document, {schemas.USER: schemas.default().by_schema(schemas.USER)})
