"""Projections: what an answer shows."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher_core import errors
from usher_core.scim import projections, schemas

USER = schemas.default().by_name("User")
GROUP = schemas.default().by_name("Group")
ENTERPRISE = schemas.ENTERPRISE_USER

ADA = {
    "schemas": [schemas.USER, ENTERPRISE],
    "id": "u1",
    "userName": "ada@x.io",
    "name": {"givenName": "Ada", "familyName": "Lovelace"},
    "emails": [{"value": "ada@x.io", "type": "work"}, {"type": "home"}],
    "groups": [{"value": "g1"}],
    ENTERPRISE: {"division": "D", "manager": {"value": "m", "displayName": "M"}},
    "meta": {"resourceType": "User", "location": "https://h/Users/u1"},
}
ALWAYS = {"schemas": ADA["schemas"], "id": "u1"}


def shown(attributes: str | None, excluded: str | None) -> dict[str, object]:
    before = copy.deepcopy(ADA)
    result = projections.parse(attributes, excluded, USER).apply(ADA)
    assert before == ADA
    return result


def without(*names: str) -> dict[str, object]:
    return {name: value for name, value in ADA.items() if name not in names}


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param(None, ADA, id="not given"),
        pytest.param("", ADA, id="empty"),
        pytest.param("id", ALWAYS, id="Entra: id"),
        pytest.param("userName", {**ALWAYS, "userName": "ada@x.io"}, id="one"),
        pytest.param(
            "USERNAME, Groups",
            {**ALWAYS, "userName": "ada@x.io", "groups": ADA["groups"]},
            id="any case, spaces",
        ),
        pytest.param("name", {**ALWAYS, "name": ADA["name"]}, id="complex"),
        pytest.param("name.givenName", {**ALWAYS, "name": {"givenName": "Ada"}}, id="sub-attribute"),
        pytest.param("name,name.givenName", {**ALWAYS, "name": ADA["name"]}, id="the whole and a part"),
        pytest.param(
            "emails.value", {**ALWAYS, "emails": [{"value": "ada@x.io"}]}, id="sub-attribute of a list"
        ),
        pytest.param("emails.display", ALWAYS, id="sub-attribute that nothing has"),
        pytest.param(
            schemas.USER.upper(),
            {name: value for name, value in ADA.items() if name not in (ENTERPRISE, "meta")},
            id="all of the core",
        ),
        pytest.param(
            "manager",
            {**ALWAYS, ENTERPRISE: {"manager": {"value": "m", "displayName": "M"}}},
            id="extension by a bare name",
        ),
        pytest.param(
            f"{ENTERPRISE}:division", {**ALWAYS, ENTERPRISE: {"division": "D"}}, id="extension by URN"
        ),
        pytest.param(
            f"{ENTERPRISE}:manager.value",
            {**ALWAYS, ENTERPRISE: {"manager": {"value": "m"}}},
            id="extension, sub-attribute",
        ),
        pytest.param(ENTERPRISE.upper(), {**ALWAYS, ENTERPRISE: ADA[ENTERPRISE]}, id="whole extension"),
        pytest.param(
            f"{schemas.USER}:name.familyName", {**ALWAYS, "name": {"familyName": "Lovelace"}}, id="core URN"
        ),
        pytest.param(
            "meta.location", {**ALWAYS, "meta": {"location": "https://h/Users/u1"}}, id="part of meta"
        ),
        pytest.param("nope,userName,name.nope,,", {**ALWAYS, "userName": "ada@x.io"}, id="unknown names"),
        pytest.param("nope", ALWAYS, id="unknown names only"),
        pytest.param("password", ALWAYS, id="what is never returned"),
    ],
)
def test_attributes(attributes, expected):
    assert shown(attributes, None) == expected


@pytest.mark.parametrize(
    ("excluded", "expected"),
    [
        pytest.param("groups", without("groups"), id="one"),
        pytest.param("GROUPS,emails", without("groups", "emails"), id="two in any case"),
        pytest.param("id,schemas,groups", without("groups"), id="what is always returned stays"),
        pytest.param("name.givenName", {**ADA, "name": {"familyName": "Lovelace"}}, id="sub-attribute"),
        pytest.param("name,name.givenName", without("name"), id="the whole and a part"),
        pytest.param("emails.type", {**ADA, "emails": [{"value": "ada@x.io"}]}, id="sub-attribute of a list"),
        pytest.param(ENTERPRISE, without(ENTERPRISE), id="whole extension"),
        pytest.param(
            schemas.USER,
            {**ALWAYS, ENTERPRISE: ADA[ENTERPRISE], "meta": ADA["meta"]},
            id="all of the core but what is always returned",
        ),
        pytest.param(
            f"{ENTERPRISE}:manager", {**ADA, ENTERPRISE: {"division": "D"}}, id="extension attribute"
        ),
        pytest.param(
            "manager.displayName",
            {**ADA, ENTERPRISE: {"division": "D", "manager": {"value": "m"}}},
            id="extension, sub-attribute",
        ),
        pytest.param("nope", ADA, id="unknown"),
    ],
)
def test_excluded_attributes(excluded, expected):
    assert shown(None, excluded) == expected


def test_both_at_once_are_refused():
    with pytest.raises(errors.InvalidValue, match="excludedAttributes"):
        projections.parse("id", "groups", USER)


@pytest.mark.parametrize(
    ("attributes", "excluded", "wanted"),
    [
        pytest.param(None, None, True, id="by default"),
        pytest.param("id", None, False, id="Entra asks for the id only"),
        pytest.param("members", None, True, id="asked for"),
        pytest.param("members.value", None, True, id="a part asked for"),
        pytest.param(None, "members", False, id="Entra excludes members"),
        pytest.param(None, "MEMBERS,displayName", False, id="excluded in any case"),
        pytest.param(None, "members.display", True, id="a part excluded"),
        pytest.param(schemas.GROUP, None, True, id="all of the core"),
    ],
)
def test_a_projection_tells_whether_members_are_wanted(attributes, excluded, wanted):
    projection = projections.parse(attributes, excluded, GROUP)
    assert projection.wants("members") is wanted
    assert projection.wants("MEMBERS") is wanted


def test_a_password_is_never_shown_even_if_a_document_holds_one():
    assert projections.parse(None, None, USER).apply({"password": "x", "unknown": 1, "id": "u"}) == {
        "id": "u"
    }


VAULT = schemas.ResourceType(
    "Vault",
    "Vaults",
    "",
    schemas.load_schema(
        {
            "id": "urn:example:scim:schemas:Vault",
            "attributes": [
                {"name": "label", "returned": "always"},
                {"name": "plan", "returned": "request"},
                {
                    "name": "door",
                    "type": "complex",
                    "subAttributes": [
                        {"name": "value"},
                        {"name": "code", "returned": "never"},
                        {"name": "log", "returned": "request"},
                        {"name": "tag", "returned": "always"},
                    ],
                },
            ],
        }
    ),
)
DOOR = {"value": "v", "code": "c", "log": "l", "tag": "t"}


@pytest.mark.parametrize(
    ("attributes", "excluded", "expected"),
    [
        pytest.param(None, None, {"label": "L", "door": {"value": "v", "tag": "t"}}, id="by default"),
        pytest.param("plan", None, {"label": "L", "plan": "P"}, id="on request"),
        pytest.param(
            "door.log", None, {"label": "L", "door": {"log": "l", "tag": "t"}}, id="a part on request"
        ),
        pytest.param("door.code", None, {"label": "L", "door": {"tag": "t"}}, id="never, even on request"),
        pytest.param(
            "door",
            None,
            {"label": "L", "door": {"value": "v", "log": "l", "tag": "t"}},
            id="all parts of what is requested",
        ),
        pytest.param(
            None, "label,door.tag,door.value", {"label": "L", "door": {"tag": "t"}}, id="always stays"
        ),
        pytest.param(
            None, "plan", {"label": "L", "door": {"value": "v", "tag": "t"}}, id="excluded is not requested"
        ),
    ],
)
def test_returned_is_obeyed_from_the_schema(attributes, excluded, expected):
    document = {"label": "L", "plan": "P", "door": DOOR}
    assert projections.parse(attributes, excluded, VAULT).apply(document) == expected


@given(st.text())
def test_any_text_is_a_projection(text):
    assert projections.parse(text, None, USER).apply(ADA)["id"] == "u1"
    assert projections.parse(None, text, USER).apply(ADA)["id"] == "u1"
