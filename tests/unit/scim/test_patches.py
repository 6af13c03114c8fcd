"""PATCH: which messages are taken, and what they make of a document."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usher_core import errors
from usher_core.scim import documents, filters, patches, schemas

REGISTRY = schemas.default()
USER = REGISTRY.by_name("User")
GROUP = REGISTRY.by_name("Group")
ENTERPRISE = schemas.ENTERPRISE_USER
BADGES = "urn:example:scim:schemas:extension:badges:1.0:User"
WITH_BADGES = schemas.ResourceType(
    "User",
    "Users",
    "",
    USER.schema,
    (
        schemas.Extension(
            schemas.load_schema(
                {
                    "id": BADGES,
                    "attributes": [
                        {"name": "number", "type": "integer", "required": True},
                        {"name": "issued", "type": "dateTime", "mutability": "immutable"},
                        {"name": "state", "mutability": "readOnly"},
                        {"name": "tags", "multiValued": True},
                        {
                            "name": "doors",
                            "type": "complex",
                            "multiValued": True,
                            "subAttributes": [{"name": "value", "required": True}, {"name": "display"}],
                        },
                        {"name": "keys", "multiValued": True, "required": True},
                    ],
                }
            ),
            required=True,
        ),
    ),
)

ADA = documents.normalise(
    USER,
    {
        "userName": "ada@x.io",
        "active": True,
        "title": "Analyst",
        "name": {"givenName": "Ada", "familyName": "Lovelace"},
        "emails": [
            {"value": "ada@x.io", "type": "work", "primary": True},
            {"value": "ada@home.org", "type": "home"},
        ],
        "roles": ["Reader"],
        ENTERPRISE: {"employeeNumber": "1", "manager": {"value": "m", "$ref": "Users/m"}},
    },
)


def message(*operations: Any) -> dict[str, Any]:
    return {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": list(operations)}


def patched(
    operations: list[Any], document: dict[str, Any] = ADA, kind: schemas.ResourceType = USER
) -> dict[str, Any]:
    before = copy.deepcopy(document)
    parsed = patches.parse(message(*operations), kind)
    travelled = patches.load(json.loads(json.dumps(patches.dump(parsed))), kind)
    assert travelled == parsed
    once = patches.apply(kind, document, travelled).document
    assert document == before, "the input was changed"
    assert documents.normalise(kind, once) == once, "the result is not in the stored form"
    return once


def changed(document: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    """Copy a document with these attributes instead; `None` takes one away."""
    result = {**document, **attributes}
    return {name: value for name, value in result.items() if value is not None}


WORK, HOME = ADA["emails"]
ENTERPRISE_ADA = ADA[ENTERPRISE]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        # The shapes that identity providers send.
        pytest.param(
            [{"op": "Replace", "path": "active", "value": "False"}],
            {"active": False},
            id="field failures 9 and 17: Entra disables",
        ),
        pytest.param([{"op": "replace", "value": {"active": False}}], {"active": False}, id="Okta disables"),
        pytest.param([{"op": "replace", "path": "active", "value": "tRUE"}], {}, id="Keycloak enables"),
        pytest.param(
            [{"op": "replace", "value": {"name.givenName": "K", f"{ENTERPRISE}:employeeNumber": "7"}}],
            {
                "name": {"givenName": "K", "familyName": "Lovelace"},
                ENTERPRISE: {**ENTERPRISE_ADA, "employeeNumber": "7"},
            },
            id="dotted and qualified keys",
        ),
        pytest.param(
            [{"op": "Replace", "path": 'emails[type eq "work"].value', "value": "n@x"}],
            {"emails": [{**WORK, "value": "n@x"}, HOME]},
            id="Entra changes the work address",
        ),
        pytest.param(
            [
                {"op": "replace", "path": "emails.type", "value": "work"},
                {"op": "replace", "path": "emails.value", "value": "n@x"},
            ],
            {"emails": [{**WORK, "value": "n@x"}]},
            id="values that become the same are one",
        ),
        pytest.param(
            [
                {"op": "add", "path": "roles", "value": [{"value": "Reader", "type": "a"}]},
                {"op": "remove", "path": "roles.type"},
            ],
            {},
            id="values that were told apart by what is removed are one",
        ),
        pytest.param(
            [{"op": "Add", "path": 'addresses[type eq "work"].formatted', "value": "18/2"}],
            {"addresses": [{"type": "work", "formatted": "18/2"}]},
            id="field failure 15: value path on a missing element",
        ),
        pytest.param(
            [
                {"op": "Add", "path": 'addresses[type eq "work"].formatted', "value": "18/2"},
                {"op": "Add", "path": 'addresses[type eq "work"].locality', "value": "Bern"},
            ],
            {"addresses": [{"type": "work", "formatted": "18/2", "locality": "Bern"}]},
            id="field failure 15: two land on one element",
        ),
        pytest.param(
            [
                {
                    "op": "Replace",
                    "path": 'phoneNumbers[type eq "mobile" and primary eq true].value',
                    "value": "1",
                }
            ],
            {"phoneNumbers": [{"type": "mobile", "primary": True, "value": "1"}]},
            id="field failure 15: replace creates as well",
        ),
        pytest.param(
            [{"op": "add", "value": {'emails[type eq "other"].value': "o@x"}}],
            {"emails": [WORK, HOME, {"type": "other", "value": "o@x"}]},
            id="a filter in a key",
        ),
        pytest.param(
            [{"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "271"}],
            {ENTERPRISE: {"employeeNumber": "1", "manager": {"value": "271"}}},
            id="field failure 13: manager as a string",
        ),
        pytest.param(
            [{"op": "Add", "path": "manager", "value": [{"$ref": "http://h/Users/9", "value": "9"}]}],
            {ENTERPRISE: {"employeeNumber": "1", "manager": {"value": "9", "$ref": "http://h/Users/9"}}},
            id="field failure 13: manager as an array",
        ),
        pytest.param(
            [{"op": "replace", "path": "manager", "value": ""}],
            {ENTERPRISE: {"employeeNumber": "1"}},
            id="field failure 13: empty manager",
        ),
        pytest.param(
            [{"op": "Add", "path": "manager", "value": ""}],
            {ENTERPRISE: {"employeeNumber": "1"}},
            id="field failure 13: add of an empty manager",
        ),
        pytest.param(
            [{"op": "replace", "path": "manager.value", "value": ""}],
            {ENTERPRISE: {"employeeNumber": "1"}},
            id="empty manager.value",
        ),
        pytest.param(
            [{"op": "replace", "value": {ENTERPRISE: {"manager": ""}}}],
            {ENTERPRISE: {"employeeNumber": "1"}},
            id="empty manager, nested",
        ),
        pytest.param(
            [{"op": "remove", "path": 'manager[value eq "m"]'}],
            {ENTERPRISE: {"employeeNumber": "1"}},
            id="manager removed by its value",
        ),
        pytest.param(
            [{"op": "remove", "path": 'manager[value eq "9"]'}], {}, id="another manager removed by its value"
        ),
        pytest.param(
            [{"op": "remove", "path": "manager"}, {"op": "remove", "path": "employeeNumber"}],
            {ENTERPRISE: None, "schemas": [schemas.USER]},
            id="an extension without content is gone",
        ),
        pytest.param(
            [
                {
                    "op": "Add",
                    "path": "roles",
                    "value": [{"value": '{"id":"r","value":"Admin","displayName":"Admin"}'}],
                }
            ],
            {"roles": [{"value": "Reader"}, {"value": "Admin", "display": "Admin"}]},
            id="field failure 14: roles as JSON in a string",
        ),
        pytest.param(
            [{"op": "replace", "value": {"id": "x", "meta": {}, "groups": [], "schemas": [], "title": "T"}}],
            {"title": "T"},
            id="what is ours is ignored without a path",
        ),
        pytest.param(
            [{"op": "replace", "value": {"shoeSize": 44, "urn:x:y": {"a": 1}, "title": "T"}}],
            {"title": "T"},
            id="unknown attributes are ignored without a path",
        ),
        pytest.param(
            [
                {"op": "replace", "value": {"password": "hunter2"}},
                {"op": "add", "path": "password", "value": "x"},
                {"op": "remove", "path": "password"},
            ],
            {},
            id="passwords are dropped",
        ),
        pytest.param(
            [{"op": "replace", "path": "schemas", "value": ["urn:x"]}], {}, id="schemas are computed"
        ),
        pytest.param(
            [
                {"op": "replace", "path": None, "value": {"title": "T"}},
                {"op": "add", "path": "", "value": {"nickName": "N"}},
            ],
            {"title": "T", "nickName": "N"},
            id="null and empty paths",
        ),
        pytest.param([{"OP": "REPLACE", "Path": "TITLE", "Value": "T"}], {"title": "T"}, id="any case"),
        # Single values.
        pytest.param(
            [{"op": "add", "path": "title", "value": "T"}], {"title": "T"}, id="add replaces a single value"
        ),
        pytest.param([{"op": "add", "path": "nickName", "value": "N"}], {"nickName": "N"}, id="add"),
        pytest.param(
            [{"op": "replace", "path": "nickName", "value": "N"}],
            {"nickName": "N"},
            id="replace adds what is not there",
        ),
        pytest.param([{"op": "remove", "path": "title"}], {"title": None}, id="remove"),
        pytest.param([{"op": "remove", "path": "nickName"}], {}, id="remove what is not there"),
        pytest.param(
            [{"op": "replace", "path": "title", "value": None}],
            {"title": None},
            id="replace with null unassigns",
        ),
        pytest.param(
            [{"op": "replace", "value": {"title": None, "nickName": None}}],
            {"title": None},
            id="null without a path unassigns",
        ),
        pytest.param([{"op": "add", "value": {"title": None}}], {}, id="add of null adds nothing"),
        pytest.param(
            [
                {"op": "add", "path": "title", "value": "A"},
                {"op": "remove", "path": "title"},
                {"op": "add", "path": "title", "value": "B"},
            ],
            {"title": "B"},
            id="in order",
        ),
        pytest.param(
            [{"op": "replace", "path": "userName", "value": "ADA@x.io"}],
            {"userName": "ADA@x.io"},
            id="a change of case is a change",
        ),
        # Complex values.
        pytest.param(
            [{"op": "replace", "path": "name", "value": {"givenName": "K"}}],
            {"name": {"givenName": "K", "familyName": "Lovelace"}},
            id="replace merges sub-attributes",
        ),
        pytest.param(
            [{"op": "add", "path": "name", "value": {"middleName": "M"}}],
            {"name": {**ADA["name"], "middleName": "M"}},
            id="add merges sub-attributes",
        ),
        pytest.param(
            [{"op": "replace", "path": "name", "value": {"givenName": None, "middleName": "M"}}],
            {"name": {"familyName": "Lovelace", "middleName": "M"}},
            id="null in an object unassigns",
        ),
        pytest.param(
            [{"op": "replace", "value": {"name": {"familyName": "K"}}}],
            {"name": {"givenName": "Ada", "familyName": "K"}},
            id="merge without a path",
        ),
        pytest.param(
            [{"op": "remove", "path": "name.givenName"}, {"op": "remove", "path": "name.familyName"}],
            {"name": None},
            id="the last sub-attribute takes the attribute with it",
        ),
        pytest.param(
            [{"op": "replace", "path": "manager.value", "value": "m2"}],
            {ENTERPRISE: {"employeeNumber": "1", "manager": {"value": "m2"}}},
            id="the reference of another manager goes",
        ),
        pytest.param(
            [{"op": "add", "path": "manager", "value": {"value": "m"}}], {}, id="the same manager again"
        ),
        # Extensions.
        pytest.param(
            [{"op": "add", "path": ENTERPRISE, "value": {"division": "D", "manager": None}}],
            {ENTERPRISE: {**ENTERPRISE_ADA, "division": "D"}},
            id="extension as the path",
        ),
        pytest.param(
            [{"op": "replace", "value": {ENTERPRISE: {"division": "D", "floor": 1, "employeeNumber": None}}}],
            {ENTERPRISE: {"manager": ENTERPRISE_ADA["manager"], "division": "D"}},
            id="extension as a key",
        ),
        pytest.param(
            [{"op": "remove", "path": ENTERPRISE}],
            {ENTERPRISE: None, "schemas": [schemas.USER]},
            id="extension removed",
        ),
        pytest.param(
            [{"op": "replace", "value": {ENTERPRISE: None}}],
            {},
            id="an extension that is null is not mentioned",
        ),
        # Lists.
        pytest.param(
            [{"op": "add", "path": "emails", "value": [{"value": "o@x", "type": "other"}]}],
            {"emails": [WORK, HOME, {"value": "o@x", "type": "other"}]},
            id="add appends",
        ),
        pytest.param(
            [{"op": "add", "path": "emails", "value": {"value": "o@x"}}],
            {"emails": [WORK, HOME, {"value": "o@x"}]},
            id="add of one object",
        ),
        pytest.param([{"op": "add", "path": "emails", "value": [WORK]}], {}, id="add of what is there"),
        pytest.param(
            [{"op": "add", "path": "emails", "value": [{"value": "ada@home.org"}]}],
            {},
            id="add of the same value",
        ),
        pytest.param(
            [{"op": "add", "path": "emails", "value": [{"value": "ada@home.org", "type": "work"}]}],
            {"emails": [WORK, HOME, {"value": "ada@home.org", "type": "work"}]},
            id="the same value of another type is another",
        ),
        pytest.param(
            [
                {
                    "op": "add",
                    "path": "emails",
                    "value": [{"value": "ada@home.org", "type": "home", "display": "H"}],
                }
            ],
            {"emails": [WORK, {**HOME, "display": "H"}]},
            id="add to the same value merges",
        ),
        pytest.param(
            [{"op": "add", "path": "emails", "value": [{"value": "o@x", "primary": True}]}],
            {"emails": [{**WORK, "primary": False}, HOME, {"value": "o@x", "primary": True}]},
            id="a new primary unsets the old",
        ),
        pytest.param(
            [{"op": "replace", "path": 'emails[type eq "home"].primary', "value": "True"}],
            {"emails": [{**WORK, "primary": False}, {**HOME, "primary": True}]},
            id="primary set by a value path unsets the old",
        ),
        pytest.param(
            [{"op": "replace", "path": "emails", "value": [{"value": "o@x"}]}],
            {"emails": [{"value": "o@x"}]},
            id="replace of a list",
        ),
        pytest.param(
            [{"op": "replace", "path": "emails", "value": []}],
            {"emails": None},
            id="replace with an empty list",
        ),
        pytest.param([{"op": "remove", "path": "emails"}], {"emails": None}, id="remove of a list"),
        pytest.param(
            [{"op": "remove", "path": "emails", "value": [{"value": "ADA@home.org"}]}],
            {"emails": [WORK]},
            id="field failure 16: remove of listed values",
        ),
        pytest.param(
            [{"op": "remove", "path": "emails", "value": [{"value": "ada@home.org", "type": "work"}]}],
            {},
            id="remove of a value of another type",
        ),
        pytest.param(
            [{"op": "remove", "path": "emails", "value": {"type": "home"}}],
            {"emails": [WORK]},
            id="remove of one object without a value",
        ),
        pytest.param(
            [
                {"op": "remove", "path": "emails", "value": []},
                {"op": "remove", "path": "emails", "value": [7, {}, None, {"value": 7}]},
            ],
            {},
            id="field failure 16: empty and malformed arrays change nothing",
        ),
        pytest.param(
            [{"op": "remove", "path": "emails", "value": None}],
            {"emails": None},
            id="remove with null is a remove of all",
        ),
        # Value paths.
        pytest.param(
            [{"op": "remove", "path": 'emails[type eq "home"]'}],
            {"emails": [WORK]},
            id="remove of an element",
        ),
        pytest.param(
            [{"op": "remove", "path": 'emails[type eq "fax"]'}],
            {},
            id="remove of an element that is not there",
        ),
        pytest.param(
            [{"op": "remove", "path": "emails[value pr]"}], {"emails": None}, id="remove of every element"
        ),
        pytest.param(
            [{"op": "remove", "path": 'emails[type eq "home"].type'}],
            {"emails": [WORK, {"value": "ada@home.org"}]},
            id="remove of a sub-attribute",
        ),
        pytest.param(
            [{"op": "remove", "path": 'emails[type eq "home"].value'}],
            {"emails": [WORK]},
            id="an element that is but a label goes",
        ),
        pytest.param(
            [{"op": "remove", "path": "emails.type"}],
            {"emails": [{"value": "ada@x.io", "primary": True}, {"value": "ada@home.org"}]},
            id="remove of a sub-attribute everywhere",
        ),
        pytest.param(
            [{"op": "replace", "path": "emails.type", "value": "other"}],
            {"emails": [{**WORK, "type": "other"}, {**HOME, "type": "other"}]},
            id="replace of a sub-attribute everywhere",
        ),
        pytest.param(
            [{"op": "add", "path": "phoneNumbers.value", "value": "1"}],
            {"phoneNumbers": [{"value": "1"}]},
            id="a sub-attribute of nothing makes an element",
        ),
        pytest.param(
            [{"op": "replace", "path": 'emails[type eq "home"]', "value": {"value": "h@x", "display": "H"}}],
            {"emails": [WORK, {"type": "home", "value": "h@x", "display": "H"}]},
            id="replace of an element",
        ),
        pytest.param(
            [{"op": "replace", "path": 'emails[type eq "home"]', "value": "h@x"}],
            {"emails": [WORK, {"type": "home", "value": "h@x"}]},
            id="replace of an element by a string",
        ),
        pytest.param(
            [{"op": "add", "path": 'emails[type eq "work"]', "value": {"display": "W"}}],
            {"emails": [{**WORK, "display": "W"}, HOME]},
            id="add to an element merges",
        ),
        pytest.param(
            [{"op": "add", "path": 'emails[type eq "work"]', "value": {"display": "W", "primary": None}}],
            {"emails": [{"value": "ada@x.io", "type": "work", "display": "W"}, HOME]},
            id="null in an element unassigns",
        ),
        pytest.param(
            [{"op": "replace", "path": 'emails[type eq "home"].value', "value": None}],
            {"emails": [WORK]},
            id="null at a value path removes",
        ),
        pytest.param(
            [{"op": "replace", "path": 'emails[type eq "home" or type eq "work"].display', "value": "x"}],
            {"emails": [{**WORK, "display": "x"}, {**HOME, "display": "x"}]},
            id="several elements",
        ),
        pytest.param(
            [{"op": "add", "path": 'emails[value eq "o@x"]', "value": {"type": "other"}}],
            {"emails": [WORK, HOME, {"value": "o@x", "type": "other"}]},
            id="an element made of filter and value",
        ),
        pytest.param(
            [{"op": "add", "path": 'emails[type eq "fax"]', "value": {"type": None}}],
            {},
            id="an element of nothing is none",
        ),
        pytest.param(
            [{"op": "add", "path": 'emails[type eq "home"]', "value": {"type": None, "value": None}}],
            {"emails": [WORK]},
            id="an element that lost all is gone",
        ),
    ],
)
def test_a_patch_of_a_user(operations, expected):
    once = patched(operations)
    assert once == changed(ADA, **expected)
    assert patched(operations, once) == once, "applied again, it changed something"


@pytest.mark.parametrize(
    ("operations", "error", "named"),
    [
        pytest.param(
            [{"op": "replace", "path": 'emails[type sw "x"].value', "value": "n@x"}],
            errors.NoTarget,
            'emails[type sw "x"]',
            id="a filter that describes no element",
        ),
        pytest.param(
            [{"op": "add", "path": 'emails[type eq "x" or type eq "y"].value', "value": "n"}],
            errors.NoTarget,
            "emails",
            id="a choice describes no element",
        ),
        pytest.param(
            [{"op": "replace", "path": 'manager[value eq "z"].$ref', "value": "n"}],
            errors.NoTarget,
            "manager",
            id="another manager",
        ),
        pytest.param(
            [{"op": "add", "path": 'emails[type eq "fax"]', "value": {"type": "other", "value": "o@x"}}],
            errors.NoTarget,
            'emails[type eq "fax"]',
            id="a value that contradicts its filter",
        ),
        pytest.param(
            [{"op": "replace", "path": "emails.primary", "value": True}],
            errors.InvalidValue,
            "emails.primary",
            id="primary everywhere",
        ),
    ],
)
def test_a_patch_that_needs_the_state_to_fail(operations, error, named):
    parsed = patches.parse(message(*operations), USER)
    with pytest.raises(error) as caught:
        patches.apply(USER, ADA, parsed)
    assert named in caught.value.detail


def test_a_patch_is_all_or_nothing():
    before = copy.deepcopy(ADA)
    parsed = patches.parse(
        message(
            {"op": "replace", "path": 'emails[type eq "work"].value', "value": "x"},
            {"op": "replace", "path": 'emails[value sw "nobody"].type', "value": "x"},
        ),
        USER,
    )
    with pytest.raises(errors.NoTarget):
        patches.apply(USER, ADA, parsed)
    assert before == ADA


@pytest.mark.parametrize(
    ("operation", "error", "named"),
    [
        pytest.param({"op": "move", "path": "title"}, errors.InvalidSyntax, "op", id="unknown op"),
        pytest.param({"path": "title", "value": "x"}, errors.InvalidSyntax, "op", id="no op"),
        pytest.param({"op": ["add"], "value": {}}, errors.InvalidSyntax, "op", id="op no string"),
        pytest.param("remove title", errors.InvalidSyntax, "Operations", id="no object"),
        pytest.param({"op": "remove"}, errors.NoTarget, "path", id="remove without a path"),
        pytest.param({"op": "add", "path": 7, "value": 1}, errors.InvalidPath, "path", id="path no string"),
        pytest.param(
            {"op": "add", "path": "actve", "value": 1}, errors.InvalidPath, "actve", id="unknown path"
        ),
        pytest.param(
            {"op": "add", "path": 'emails[typ eq "x"]', "value": 1},
            errors.InvalidFilter,
            "typ",
            id="wrong filter",
        ),
        pytest.param({"op": "add", "path": "title"}, errors.InvalidValue, "title", id="no value"),
        pytest.param({"op": "replace"}, errors.InvalidValue, "replace", id="neither path nor value"),
        pytest.param(
            {"op": "replace", "value": [1]}, errors.InvalidValue, "object", id="value without path no object"
        ),
        pytest.param(
            {"op": "replace", "path": ENTERPRISE, "value": "x"},
            errors.InvalidValue,
            "object",
            id="extension no object",
        ),
        pytest.param(
            {"op": "replace", "path": "active", "value": "maybe"},
            errors.InvalidValue,
            "active",
            id="wrong type",
        ),
        pytest.param(
            {"op": "replace", "value": {"name.givenName": 7}},
            errors.InvalidValue,
            "name.givenName",
            id="wrong type in a key",
        ),
        pytest.param(
            {"op": "replace", "value": {ENTERPRISE: {"division": 7}}},
            errors.InvalidValue,
            f"{ENTERPRISE}:division",
            id="wrong type in an extension",
        ),
        pytest.param(
            {"op": "replace", "path": 'emails[type eq "work"].value', "value": 7},
            errors.InvalidValue,
            "emails.value",
            id="wrong type at a value path",
        ),
        pytest.param(
            {
                "op": "add",
                "path": "emails",
                "value": [{"value": "a", "primary": True}, {"value": "b", "primary": True}],
            },
            errors.InvalidValue,
            "emails.primary",
            id="two primaries",
        ),
        pytest.param(
            {"op": "replace", "path": "title", "value": "\0"}, errors.InvalidValue, "title", id="NUL"
        ),
        pytest.param(
            {"op": "replace", "path": "title", "value": "\ud800"},
            errors.InvalidValue,
            "title",
            id="lone surrogate",
        ),
        pytest.param(
            {"op": "replace", "path": "password", "value": 7},
            errors.InvalidValue,
            "password",
            id="password no string",
        ),
        pytest.param(
            {"op": "replace", "path": "userName", "value": None},
            errors.MutabilityViolated,
            "userName",
            id="null for what is required, as its remove",
        ),
        pytest.param(
            {"op": "replace", "value": {"userName": []}},
            errors.MutabilityViolated,
            "userName",
            id="an empty list for what is required, without a path",
        ),
        pytest.param(
            {"op": "replace", "value": {"userName": " "}},
            errors.InvalidValue,
            "userName",
            id="required blank",
        ),
        pytest.param(
            {"op": "remove", "path": "userName"},
            errors.MutabilityViolated,
            "userName",
            id="remove of what is required",
        ),
        pytest.param({"op": "replace", "path": "id", "value": "x"}, errors.MutabilityViolated, "id", id="id"),
        pytest.param(
            {"op": "replace", "path": "meta.created", "value": "x"},
            errors.MutabilityViolated,
            "meta.created",
            id="meta",
        ),
        pytest.param(
            {"op": "add", "path": "groups", "value": []}, errors.MutabilityViolated, "groups", id="groups"
        ),
        pytest.param(
            {"op": "remove", "path": 'groups[value eq "g"]'},
            errors.MutabilityViolated,
            "groups",
            id="groups with a filter",
        ),
        pytest.param(
            {"op": "replace", "path": "manager.displayName", "value": "x"},
            errors.MutabilityViolated,
            "manager.displayName",
            id="read-only sub-attribute",
        ),
    ],
)
def test_a_wrong_operation_is_refused_before_any_state_is_known(operation, error, named):
    with pytest.raises(error) as caught:
        patches.parse(message({"op": "add", "path": "title", "value": "x"}, operation), USER)
    assert named in caught.value.detail


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param(None, errors.InvalidSyntax, id="no object"),
        pytest.param([], errors.InvalidSyntax, id="a list"),
        pytest.param({"Operations": []}, errors.InvalidSyntax, id="no operations"),
        pytest.param({"active": False}, errors.InvalidSyntax, id="a resource"),
        pytest.param({"Operations": {"op": "add"}}, errors.InvalidSyntax, id="operations no list"),
        pytest.param(
            {"schemas": [schemas.USER], "Operations": [{}]}, errors.InvalidSyntax, id="another message"
        ),
        pytest.param(
            {"schemas": ["urn:scim:schemas:core:1.0"], "Operations": [{}]},
            errors.InvalidVersion,
            id="SCIM 1.x",
        ),
    ],
)
def test_a_body_that_is_no_patch_is_refused(body, error):
    with pytest.raises(error):
        patches.parse(body, USER)


def test_a_deep_value_is_refused():
    value: Any = "x"
    for _ in range(100_000):
        value = [value]
    with pytest.raises(errors.InvalidSyntax, match="32"):
        patches.parse(message({"op": "add", "path": "title", "value": value}), USER)


@pytest.mark.parametrize("schemas_sent", [{}, {"schemas": None}, {"schemas": []}])
def test_a_patch_without_schemas_is_tolerated(schemas_sent):
    body = {**schemas_sent, "operations": [{"op": "remove", "path": "title"}]}
    assert patches.parse(body, USER) == (patches.Operation("remove", "title"),)


def test_operations_that_change_nothing_leave_nothing():
    assert patches.parse(message({"op": "replace", "value": {"password": "x", "id": "y"}}), USER) == ()
    assert patches.parse(message({"op": "remove", "path": "emails", "value": []}), USER) == ()
    assert patches.apply(USER, ADA, ()).document == ADA


def test_a_password_is_in_no_operation():
    operations = message(
        {"op": "replace", "value": {"password": "hunter2", "title": "T"}},
        {"op": "add", "path": f"{schemas.USER}:password", "value": "hunter2"},
    )
    assert "hunter2" not in json.dumps(patches.dump(patches.parse(operations, USER)))


# A schema of the tenant.


def badge(**attributes: Any) -> dict[str, Any]:
    body = {"userName": "a", BADGES: {"number": 1, "keys": ["k"], **attributes}}
    return documents.normalise(WITH_BADGES, body)


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        pytest.param(
            [{"op": "add", "path": "tags", "value": ["a", "B", "A"]}],
            {"tags": ["a", "B"]},
            id="add without duplicates",
        ),
        pytest.param(
            [{"op": "add", "path": "tags", "value": "a"}, {"op": "remove", "path": "tags", "value": ["A"]}],
            {},
            id="remove of listed values",
        ),
        pytest.param(
            [
                {"op": "replace", "path": "tags", "value": ["a", "b"]},
                {"op": "remove", "path": 'tags[value eq "a"]'},
            ],
            {"tags": ["b"]},
            id="remove by a filter",
        ),
        pytest.param(
            [
                {"op": "replace", "path": "tags", "value": ["a"]},
                {"op": "replace", "path": 'tags[value eq "a"]', "value": "b"},
            ],
            {"tags": ["b"]},
            id="replace by a filter",
        ),
        pytest.param(
            [{"op": "add", "path": 'tags[value eq "a"]', "value": "a"}], {"tags": ["a"]}, id="add by a filter"
        ),
        pytest.param(
            [{"op": "add", "path": "issued", "value": "2030-01-31T23:59:59Z"}],
            {"issued": "2030-01-31T23:59:59Z"},
            id="immutable is set once",
        ),
        pytest.param(
            [{"op": "replace", "value": {BADGES: {"state": "lost", "number": 2}}}],
            {"number": 2},
            id="read-only without a path is ignored",
        ),
        pytest.param(
            [{"op": "add", "path": 'doors[value eq "d"].display', "value": "e"}],
            {"doors": [{"value": "d", "display": "e"}]},
            id="new element with what it must have",
        ),
    ],
)
def test_a_patch_on_a_schema_of_the_tenant(operations, expected):
    assert patched(operations, badge(), WITH_BADGES) == badge(**expected)


@pytest.mark.parametrize(
    ("operation", "error", "named"),
    [
        pytest.param(
            {"op": "replace", "path": "issued", "value": "2031-01-31T23:59:59Z"},
            errors.MutabilityViolated,
            "issued",
            id="immutable changed",
        ),
        pytest.param(
            {"op": "remove", "path": "issued"}, errors.MutabilityViolated, "issued", id="immutable removed"
        ),
        pytest.param(
            {"op": "add", "path": "issued", "value": "2030-01-31T23:59:59Z"},
            None,
            "",
            id="immutable set to what it is",
        ),
        pytest.param(
            {"op": "remove", "path": f"{BADGES}:number"},
            errors.MutabilityViolated,
            "number",
            id="required removed",
        ),
        pytest.param(
            {"op": "remove", "path": "keys", "value": ["k"]},
            errors.MutabilityViolated,
            "keys",
            id="the last of a required list removed",
        ),
        pytest.param(
            {"op": "remove", "path": 'keys[value eq "k"]'},
            errors.MutabilityViolated,
            "keys",
            id="the last of a required list filtered out",
        ),
        pytest.param(
            {"op": "replace", "path": "keys", "value": []},
            errors.MutabilityViolated,
            "keys",
            id="required list emptied",
        ),
        pytest.param(
            {"op": "remove", "path": BADGES},
            errors.MutabilityViolated,
            BADGES,
            id="required extension removed",
        ),
        pytest.param(
            {"op": "remove", "path": 'doors[value eq "d"].value'},
            errors.MutabilityViolated,
            "doors[",
            id="required sub-attribute of an element removed",
        ),
        pytest.param(
            {"op": "replace", "path": 'doors[value eq "d"].value', "value": None},
            errors.MutabilityViolated,
            "doors[",
            id="required sub-attribute of an element unassigned",
        ),
        pytest.param(
            {"op": "add", "path": 'doors[display eq "d"].display', "value": "d"},
            errors.InvalidValue,
            "doors.value",
            id="new element without what it must have",
        ),
        pytest.param(
            {"op": "replace", "path": "state", "value": "x"},
            errors.MutabilityViolated,
            "state",
            id="read-only",
        ),
    ],
)
def test_what_a_schema_of_the_tenant_forbids(operation, error, named):
    document = badge(issued="2030-01-31T23:59:59Z")
    if error is None:
        assert patched([operation], document, WITH_BADGES) == document
        return
    with pytest.raises(error) as caught:
        patches.apply(WITH_BADGES, document, patches.parse(message(operation), WITH_BADGES))
    assert named in caught.value.detail


def test_an_extension_must_be_whole_when_a_patch_begins_it():
    with pytest.raises(errors.InvalidValue, match="keys"):
        patches.apply(
            WITH_BADGES,
            documents.normalise(USER, {"userName": "a"}),
            patches.parse(message({"op": "add", "path": f"{BADGES}:number", "value": 1}), WITH_BADGES),
        )


def test_what_an_operation_could_bring_is_told_whatever_a_document_must_have():
    [operation] = patches.parse(message({"op": "add", "path": f"{BADGES}:number", "value": 1}), WITH_BADGES)
    assert patches.brought(WITH_BADGES, operation).document == {BADGES: {"number": 1}}


# Members of groups.

GROUP_DOCUMENT = documents.normalise(GROUP, {"displayName": "G"})
U1, U2 = patches.Member("u1"), patches.Member("u2", "User", "b@x")


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        pytest.param(
            [{"op": "add", "path": "members", "value": [{"value": "u1"}, {"value": "u2", "display": "b@x"}]}],
            (patches.MembersAdded((U1, U2)),),
            id="add",
        ),
        pytest.param(
            [{"op": "Add", "path": "members", "value": [{"$ref": None, "value": "u1"}]}],
            (patches.MembersAdded((U1,)),),
            id="Entra adds",
        ),
        pytest.param(
            [{"op": "add", "value": {"members": [{"value": "u1"}]}}],
            (patches.MembersAdded((U1,)),),
            id="add without a path",
        ),
        pytest.param(
            [{"op": "add", "path": "members", "value": [{"value": "u1"}, {"value": "u1", "display": "x"}]}],
            (patches.MembersAdded((U1,)),),
            id="field failure 20: twice in one",
        ),
        pytest.param([{"op": "add", "path": "members", "value": []}], (), id="add of none"),
        pytest.param(
            [{"op": "add", "path": 'members[value eq "u1"]', "value": {"value": "u1"}}],
            (patches.MembersAdded((U1,)),),
            id="add by a filter",
        ),
        pytest.param(
            [
                {"op": "remove", "path": 'members[value eq "u1"]'},
                {"op": "add", "path": "members", "value": [{"value": "u2", "display": "b@x"}]},
            ],
            (patches.MembersRemoved(("u1",)), patches.MembersAdded((U2,))),
            id="Okta changes one, in order",
        ),
        pytest.param(
            [{"op": "remove", "path": 'members[value eq "u1" or value eq "u2"]'}],
            (patches.MembersRemoved(("u1", "u2")),),
            id="remove of two by a filter",
        ),
        pytest.param(
            [{"op": "Remove", "path": "members", "value": [{"value": "u1"}]}],
            (patches.MembersRemoved(("u1",)),),
            id="field failure 16: Entra removes those listed",
        ),
        pytest.param(
            [{"op": "remove", "path": "members", "value": {"value": "u1"}}],
            (patches.MembersRemoved(("u1",)),),
            id="remove of one object",
        ),
        pytest.param(
            [{"op": "remove", "path": "members", "value": ["u1", {}, 7]}],
            (patches.MembersRemoved(("u1",)),),
            id="the malformed among those listed",
        ),
        pytest.param(
            [{"op": "remove", "path": "members", "value": []}],
            (),
            id="field failure 16: remove of an empty array",
        ),
        pytest.param(
            [
                {"op": "remove", "path": "members", "value": [{}]},
                {"op": "remove", "path": "members", "value": [{"value": None}]},
                {"op": "remove", "path": "members", "value": 7},
            ],
            (),
            id="field failure 16: remove of malformed arrays",
        ),
        pytest.param(
            [{"op": "remove", "path": "members"}],
            (patches.MembersCleared(),),
            id="Keycloak: remove without a value",
        ),
        pytest.param(
            [{"op": "replace", "path": "members", "value": [{"value": "u1"}]}],
            (patches.MembersReplaced((U1,)),),
            id="replace",
        ),
        pytest.param(
            [{"op": "replace", "path": "members", "value": []}],
            (patches.MembersReplaced(()),),
            id="field failure 12: replace with none",
        ),
        pytest.param(
            [{"op": "replace", "value": {"id": "g", "displayName": "G", "members": [{"value": "u1"}]}}],
            (patches.MembersReplaced((U1,)),),
            id="replace without a path",
        ),
        pytest.param(
            [{"op": "replace", "value": {"id": "g", "displayName": "G"}}],
            (),
            id="Okta renames: members are not mentioned",
        ),
        pytest.param(
            [{"op": "replace", "value": {"displayName": "G", "members": None}}],
            (),
            id="null members are not mentioned",
        ),
    ],
)
def test_members_are_operations_and_never_in_the_document(operations, expected):
    parsed = patches.parse(message(*operations), GROUP)
    travelled = patches.load(json.loads(json.dumps(patches.dump(parsed))), GROUP)
    result = patches.apply(GROUP, GROUP_DOCUMENT, travelled)
    assert result.member_operations == expected
    assert result.document == GROUP_DOCUMENT


def test_a_filter_that_names_no_ids_is_left_to_the_store():
    operations = patches.parse(message({"op": "remove", "path": 'members[type eq "Group"]'}), GROUP)
    (operation,) = patches.apply(GROUP, GROUP_DOCUMENT, operations).member_operations
    assert isinstance(operation, patches.MembersRemovedWhere)
    assert isinstance(operation.filter, filters.Comparison)


def test_256_members_in_one_patch_are_all_there():
    members = [{"value": f"u{n}"} for n in range(256)]
    operations = patches.parse(message({"op": "add", "path": "members", "value": members}), GROUP)
    (added,) = patches.apply(GROUP, GROUP_DOCUMENT, operations).member_operations
    assert added == patches.MembersAdded(tuple(patches.Member(f"u{n}") for n in range(256)))


@pytest.mark.parametrize(
    ("operation", "error", "named"),
    [
        pytest.param(
            {"op": "add", "path": "members", "value": [{"display": "x"}]},
            errors.InvalidValue,
            "members.value",
            id="no id",
        ),
        pytest.param(
            {"op": "replace", "path": "members", "value": [{"value": ""}]},
            errors.InvalidValue,
            "members.value",
            id="empty id",
        ),
        pytest.param({"op": "add", "path": "members"}, errors.InvalidValue, "members", id="no value"),
        pytest.param(
            {"op": "replace", "path": 'members[value eq "u1"].type', "value": "x"},
            errors.MutabilityViolated,
            "members.type",
            id="sub-attribute",
        ),
        pytest.param(
            {"op": "replace", "path": 'members[value eq "u1"]', "value": {"value": "u2"}},
            errors.MutabilityViolated,
            "members",
            id="another id in its place",
        ),
        pytest.param(
            {"op": "replace", "path": 'members[type eq "Group"]', "value": {"display": "x"}},
            errors.MutabilityViolated,
            "members",
            id="another name for those of a filter",
        ),
        pytest.param(
            {"op": "remove", "path": 'members[type eq "Group" or not ($ref pr)]'},
            errors.InvalidFilter,
            "members.$ref",
            id="by the URL that each answer makes",
        ),
        pytest.param(
            {"op": "remove", "path": "displayName"},
            errors.MutabilityViolated,
            "displayName",
            id="the group's name",
        ),
    ],
)
def test_a_wrong_operation_on_a_group_is_refused(operation, error, named):
    with pytest.raises(error) as caught:
        patches.parse(message(operation), GROUP)
    assert named in caught.value.detail


# Properties.

targets = st.sampled_from(
    [
        *(
            "userName",
            "title",
            "active",
            "name",
            "name.givenName",
            "emails",
            "emails.type",
            "roles",
            "manager",
        ),
        *('emails[type eq "work"]', 'emails[type eq "work"].value', "emails[primary eq true].display"),
        *('emails[value sw "a"].primary', 'manager[value eq "m"]', "manager.value", "addresses", "password"),
        *("members", 'members[value eq "u"]', ENTERPRISE, "schemas", "groups", "nope", "displayName"),
    ]
)
scalars = st.sampled_from([None, True, "False", "", "work", "a@x", "m", 7, "\0"])
subs = st.sampled_from(["value", "type", "primary", "display", "givenName", "$ref", "formatted"])
elements = st.dictionaries(subs, scalars, max_size=3) | scalars
contents = elements | st.lists(elements, max_size=3)
operation = st.fixed_dictionaries(
    {"op": st.sampled_from(["add", "Replace", "remove"])},
    optional={"path": targets, "value": contents | st.dictionaries(targets, contents, max_size=3)},
)
initial = st.dictionaries(
    st.sampled_from(["title", "active", "name", "emails", "roles", "manager", "addresses", "displayName"]),
    contents,
    max_size=5,
).map(lambda body: {"userName": "u", "displayName": "d", **body})


@settings(max_examples=500)
@given(st.sampled_from([USER, GROUP]), initial, operation)
def test_an_operation_is_pure_idempotent_and_fails_as_a_protocol_error_only(kind, body, item):
    sent = message(item)
    before_sent = repr(sent)
    try:
        document, _ = documents.split_members(kind, documents.normalise(kind, body))
        operations = patches.parse(sent, kind)
    except errors.ScimError as exc:
        exc.detail.encode()
        return
    finally:
        assert repr(sent) == before_sent
    before = copy.deepcopy(document)
    try:
        once = patches.apply(kind, document, operations)
        twice = patches.apply(kind, once.document, operations)
    except (errors.NoTarget, errors.InvalidValue, errors.MutabilityViolated):
        return
    finally:
        assert document == before
    assert twice == once
    assert documents.normalise(kind, once.document) == once.document
    assert "members" not in once.document
