"""Bodies of POST and PUT become documents: what is kept, what is tolerated, what is refused."""

from __future__ import annotations

import copy
import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usher_core import errors
from usher_core.scim import documents, patches, schemas, values

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
        *USER.extensions,
        schemas.Extension(
            schemas.load_schema(
                {
                    "id": BADGES,
                    "attributes": [
                        {"name": "number", "type": "integer", "uniqueness": "server", "required": True},
                        {"name": "issued", "type": "dateTime", "mutability": "immutable"},
                        {"name": "weight", "type": "decimal"},
                        {"name": "desk", "uniqueness": "server"},
                        {"name": "key", "type": "binary"},
                        {"name": "tags", "type": "string", "multiValued": True, "caseExact": True},
                        {
                            "name": "doors",
                            "type": "complex",
                            "multiValued": True,
                            "subAttributes": [{"name": "value", "required": True, "uniqueness": "global"}],
                        },
                    ],
                }
            )
        ),
    ),
)


def user(**attributes: Any) -> dict[str, Any]:
    return documents.normalise(USER, {"userName": "ada@x.io", **attributes})


def badge(**attributes: Any) -> dict[str, Any]:
    body = {"userName": "ada@x.io", BADGES: {"number": 1, **attributes}}
    return documents.normalise(WITH_BADGES, body)


def test_an_okta_user_is_stored_without_what_is_ours_or_secret():
    document = documents.normalise(
        USER,
        {
            "schemas": [schemas.USER],
            "userName": "ada@x.io",
            "externalId": "00u1",
            "id": "theirs",
            "meta": {"resourceType": "User"},
            "groups": [],
            "password": "hunter2",
            "locale": "en-US",
            "active": True,
            "name": {"givenName": "Ada", "familyName": "L"},
            "emails": [{"primary": True, "value": "ada@x.io", "type": "work"}],
        },
    )
    assert document == {
        "schemas": [schemas.USER],
        "userName": "ada@x.io",
        "externalId": "00u1",
        "locale": "en-US",
        "active": True,
        "name": {"givenName": "Ada", "familyName": "L"},
        "emails": [{"primary": True, "value": "ada@x.io", "type": "work"}],
    }


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        pytest.param({"USERNAME": "b@x"}, {"userName": "b@x"}, id="any case of a name"),
        pytest.param(
            {"name": {"GIVENNAME": "K"}}, {"name": {"givenName": "K"}}, id="any case of a sub-attribute"
        ),
        pytest.param({"title": None, "emails": [], "name": {}}, {}, id="null and empty are unassigned"),
        pytest.param({"active": None}, {"active": False}, id="active null does not become true"),
        pytest.param(
            {"emails": [None, {"value": None}, {"value": "a@x"}]},
            {"emails": [{"value": "a@x"}]},
            id="null in lists",
        ),
        pytest.param({"active": "True"}, {"active": True}, id="field failure 9: string boolean"),
        pytest.param(
            {"active": "fALSE"}, {"active": False}, id="field failure 9: string boolean in any case"
        ),
        pytest.param(
            {"emails": [{"value": "a", "primary": "True"}]},
            {"emails": [{"value": "a", "primary": True}]},
            id="field failure 9: inside",
        ),
        pytest.param(
            {"emails": {"value": "a@x"}}, {"emails": [{"value": "a@x"}]}, id="one object for a list"
        ),
        pytest.param(
            {"emails": ["a@x", "b@x"]},
            {"emails": [{"value": "a@x"}, {"value": "b@x"}]},
            id="strings for objects",
        ),
        pytest.param({"emails": "a@x"}, {"emails": [{"value": "a@x"}]}, id="one string for a list"),
        pytest.param(
            {"emails": [{"value": "a@corp.local", "type": "cellar"}]},
            {"emails": [{"value": "a@corp.local", "type": "cellar"}]},
            id="canonical values are hints",
        ),
        pytest.param(
            {"roles": [{"value": '{"id":"r","value":"Admin","displayName":"Boss"}', "primary": "False"}]},
            {"roles": [{"value": "Admin", "display": "Boss", "primary": False}]},
            id="field failure 14: roles as JSON in a string",
        ),
        pytest.param(
            {"roles": ['{"value":"Admin"}']}, {"roles": [{"value": "Admin"}]}, id="field failure 14: bare"
        ),
        pytest.param(
            {"roles": ['{"value":"{\\"value\\":\\"Admin\\"}"}']},
            {"roles": [{"value": "Admin"}]},
            id="field failure 14: packed twice",
        ),
        pytest.param(
            {"roles": ["{not json", '{"id":"r"}']},
            {"roles": [{"value": "{not json"}, {"value": '{"id":"r"}'}]},
            id="roles that only look like JSON",
        ),
        pytest.param(
            {"nickname": "k", "shoeSize": 44, "urn:example:unknown": {"a": 1}},
            {"nickName": "k"},
            id="unknown attributes and schemas",
        ),
        pytest.param(
            {"groups": [{"value": "g"}], "id": 7, "meta": "x"},
            {},
            id="what is ours is ignored whatever it is",
        ),
        pytest.param({f"{schemas.USER}:title": "T"}, {"title": "T"}, id="core name qualified by its URN"),
        pytest.param({"profileUrl": "https://x.io/ada"}, {"profileUrl": "https://x.io/ada"}, id="reference"),
    ],
)
def test_a_body_is_brought_to_the_stored_form(attributes, expected):
    assert user(**attributes) == {"schemas": [schemas.USER], "userName": "ada@x.io", **expected}


@pytest.mark.parametrize(
    ("manager", "expected"),
    [
        pytest.param("271", {"value": "271"}, id="field failure 13: string"),
        pytest.param({"value": "271", "displayName": "Read only"}, {"value": "271"}, id="object"),
        pytest.param(
            [{"$ref": "http://h/Users/9", "value": "9"}],
            {"$ref": "http://h/Users/9", "value": "9"},
            id="array",
        ),
        pytest.param(["9"], {"value": "9"}, id="array of a string"),
        pytest.param("", None, id="empty string"),
        pytest.param({"value": ""}, None, id="empty value"),
        pytest.param(None, None, id="null"),
        pytest.param([], None, id="empty array"),
        pytest.param({"managerId": "9"}, {"value": "9"}, id="OneLogin's name"),
    ],
)
def test_a_manager_comes_in_many_forms(manager, expected):
    held = user(**{ENTERPRISE: {"manager": manager}}).get(ENTERPRISE)
    assert held == (None if expected is None else {"manager": expected})


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param({ENTERPRISE: {"employeeNumber": "7"}}, id="nested"),
        pytest.param({ENTERPRISE.lower(): {"EMPLOYEENUMBER": "7"}}, id="nested, any case"),
        pytest.param({f"{ENTERPRISE}:employeeNumber": "7"}, id="flat"),
        pytest.param({f"{ENTERPRISE}:employeeNumber".upper(): "7"}, id="flat, any case"),
        pytest.param({"employeeNumber": "7"}, id="bare"),
        pytest.param(
            {"employeeNumber": "8", ENTERPRISE: {"employeeNumber": "7"}}, id="nested wins over flat"
        ),
        pytest.param({ENTERPRISE: {"employeeNumber": "7"}, "employeeNumber": "8"}, id="in any order"),
    ],
)
def test_extension_attributes_are_found_nested_and_flat(attributes):
    document = user(**attributes)
    assert document[ENTERPRISE] == {"employeeNumber": "7"}
    assert document["schemas"] == [schemas.USER, ENTERPRISE]


@pytest.mark.parametrize("sent", [None, [], [schemas.GROUP], ["urn:x", ENTERPRISE], schemas.USER])
def test_schemas_are_computed_from_the_content(sent):
    assert user(schemas=sent)["schemas"] == [schemas.USER]


def test_an_empty_extension_is_no_content():
    assert user(**{ENTERPRISE: {"manager": "", "division": None}}) == user()


@pytest.mark.parametrize(
    "sent",
    [
        ["urn:scim:schemas:core:1.0"],
        "urn:scim:schemas:core:1.0",
        ["URN:SCIM:schemas:core:1.0", "urn:scim:schemas:extension:enterprise:1.0"],
    ],
)
def test_scim_1_is_refused_in_words(sent):
    with pytest.raises(errors.InvalidVersion, match=r"SCIM 2\.0 only"):
        user(schemas=sent)


def test_scim_1_beside_ours_is_tolerated_for_onelogin():
    assert user(schemas=["urn:scim:schemas:core:1.0", schemas.USER], id=None, active="true")["active"] is True


@pytest.mark.parametrize("body", [None, [], "x", 7, True])
def test_a_body_that_is_no_object_is_a_syntax_error(body):
    with pytest.raises(errors.InvalidSyntax):
        documents.normalise(USER, body)


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        pytest.param({"userName": None}, "userName", id="required null"),
        pytest.param({"userName": "  "}, "userName", id="required blank"),
        pytest.param({"userName": 7}, "userName", id="number for string"),
        pytest.param({"title": {"a": 1}}, "title", id="object for string"),
        pytest.param({"title": ["x"]}, "title", id="array for string"),
        pytest.param({"active": "yes"}, "active", id="boolean in words"),
        pytest.param({"active": 1}, "active", id="number for boolean"),
        pytest.param({"name": "Ada"}, "name", id="string for an object without value"),
        pytest.param({"name": {"givenName": 7}}, "name.givenName", id="inside an object"),
        pytest.param({"emails": [{"value": 7}]}, "emails.value", id="inside a list"),
        pytest.param({"emails": [7]}, "emails", id="number in a list"),
        pytest.param(
            {"emails": [{"value": "a", "primary": True}, {"value": "b", "primary": "true"}]},
            "emails.primary",
            id="two primaries",
        ),
        pytest.param({"title": "a\0b"}, "title", id="NUL"),
        pytest.param({"title": "a\ud800b"}, "title", id="lone surrogate"),
        pytest.param({"password": 7}, "password", id="password no string"),
        pytest.param({"password": "\0"}, "password", id="password with NUL"),
        pytest.param({ENTERPRISE: "x"}, ENTERPRISE, id="extension no object"),
        pytest.param({ENTERPRISE: {"manager": {"value": 7}}}, f"{ENTERPRISE}:manager.value", id="extension"),
        pytest.param({ENTERPRISE: {"manager": ["1", "2"]}}, f"{ENTERPRISE}:manager", id="two managers"),
        pytest.param({"x509Certificates": [{"value": "~"}]}, "x509Certificates.value", id="no base64"),
        pytest.param({"schemas": [1]}, "schemas", id="schemas no strings"),
    ],
)
def test_a_wrong_value_is_refused_and_its_path_named(attributes, named):
    with pytest.raises(errors.InvalidValue) as caught:
        user(**attributes)
    assert named in caught.value.detail


def test_an_error_does_not_quote_the_value():
    with pytest.raises(errors.InvalidValue) as caught:
        user(password=["hunter2"])
    assert "hunter2" not in caught.value.detail


def test_unknown_attributes_are_refused_when_asked_for():
    with pytest.raises(errors.InvalidValue, match=r"usrName.*did you mean userName"):
        documents.normalise(USER, {"userName": "a", "usrName": "b"}, ignore_unknown=False)
    with pytest.raises(errors.InvalidValue, match=f"floor is no attribute of {ENTERPRISE}; .* organization"):
        documents.normalise(USER, {"userName": "a", ENTERPRISE: {"floor": 1}}, ignore_unknown=False)


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels - 1):
        value = [value]
    return value


def test_depth_is_limited_even_in_what_is_ignored():
    assert user(unknown=nested(31)) == user()
    with pytest.raises(errors.InvalidSyntax, match="32 levels"):
        user(unknown=nested(32))
    with pytest.raises(errors.InvalidSyntax):
        user(unknown=nested(100_000))


def test_json_in_a_role_that_is_nested_without_end_stays_a_string():
    packed = '{"value":' + "[" * 100_000
    assert user(roles=[packed])["roles"] == [{"value": packed}]


@pytest.mark.parametrize(
    ("attributes", "kept"),
    [
        pytest.param({"number": 2**63 - 1}, {"number": 2**63 - 1}, id="integer"),
        pytest.param({"weight": 1.5}, {"number": 1, "weight": 1.5}, id="decimal"),
        pytest.param({"weight": 2}, {"number": 1, "weight": 2}, id="integer as decimal"),
        pytest.param({"weight": 2**63}, {"number": 1, "weight": 2.0**63}, id="large integer as decimal"),
        pytest.param(
            {"issued": "2030-01-31T23:59:59Z"}, {"number": 1, "issued": "2030-01-31T23:59:59Z"}, id="time"
        ),
        pytest.param(
            {"issued": "2030-01-31T23:59:59.1234567+02:00"},
            {"number": 1, "issued": "2030-01-31T23:59:59.1234567+02:00"},
            id="time with fraction",
        ),
        pytest.param({"key": "YWI="}, {"number": 1, "key": "YWI="}, id="base64"),
        pytest.param({"tags": "a"}, {"number": 1, "tags": ["a"]}, id="one string for a list of strings"),
        pytest.param({"doors": ["d1"]}, {"number": 1, "doors": [{"value": "d1"}]}, id="complex"),
    ],
)
def test_a_schema_of_the_tenant_is_obeyed(attributes, kept):
    assert badge(**attributes)[BADGES] == kept


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        pytest.param({"number": True}, "number", id="boolean is no integer"),
        pytest.param({"number": 1.0}, "number", id="decimal is no integer"),
        pytest.param({"number": 2**63}, "number", id="integer too large"),
        pytest.param({"number": None, "weight": 1}, "number is required", id="required"),
        pytest.param({"weight": float("nan")}, "weight", id="not a number"),
        pytest.param({"weight": True}, "weight must be a number", id="boolean is no decimal"),
        pytest.param({"weight": 10**400}, "weight", id="more than a decimal can be"),
        pytest.param({"issued": "2030-01-31"}, "issued", id="date is no time"),
        pytest.param({"issued": "2030-02-31T00:00:00Z"}, "issued", id="no such day"),
        pytest.param({"issued": 1893456000}, "issued", id="number is no time"),
        pytest.param({"key": "a b!"}, "key", id="no base64"),
        pytest.param({"tags": ["a", 1]}, "tags", id="list of strings"),
        pytest.param(
            {"doors": [{}, {"value": None, "weight": 1}, {"value": ""}]}, "doors.value", id="required inside"
        ),
    ],
)
def test_a_schema_of_the_tenant_is_enforced(attributes, named):
    with pytest.raises(errors.InvalidValue) as caught:
        badge(**attributes)
    assert f"{BADGES}:{named}" in caught.value.detail


# Groups and their members.


def group(**attributes: Any) -> dict[str, Any]:
    return documents.normalise(GROUP, {"displayName": "G", **attributes})


def test_members_are_kept_by_id_once_and_typed():
    document = group(
        members=[
            {"value": "u1", "display": "Ada", "$ref": "Users/u1"},
            {"value": "u1", "display": "Again"},
            "u2",
            None,
            {"VALUE": "g1", "type": "group", "$ref": None},
        ]
    )
    assert document["members"] == [
        {"value": "u1", "type": "User", "display": "Ada"},
        {"value": "u2", "type": "User"},
        {"value": "g1", "type": "Group"},
    ]


@pytest.mark.parametrize(
    "members",
    [[{}], [{"value": ""}], [{"value": None}], [{"value": 7}], [7], [[]], [{"value": "\0"}], [""], True],
)
def test_a_member_without_an_id_is_refused(members):
    with pytest.raises(errors.InvalidValue, match="members"):
        group(members=members)


@pytest.mark.parametrize(
    ("attributes", "members"),
    [
        pytest.param({}, None, id="not mentioned"),
        pytest.param({"members": None}, None, id="null is no mention"),
        pytest.param({"members": []}, (), id="empty"),
        pytest.param(
            {"members": [{"value": "u1", "display": "A"}]}, (patches.Member("u1", "User", "A"),), id="one"
        ),
    ],
)
def test_members_are_split_from_the_document(attributes, members):
    document = group(**attributes)
    before = copy.deepcopy(document)
    assert documents.split_members(GROUP, document) == (
        {"schemas": [schemas.GROUP], "displayName": "G"},
        members,
    )
    assert document == before


def test_a_user_has_no_members_to_split():
    assert documents.split_members(USER, user()) == (user(), None)


def test_a_group_needs_a_name():
    with pytest.raises(errors.InvalidValue, match="displayName"):
        documents.normalise(GROUP, {"members": []})


# What is indexed.


def test_unique_values_are_folded():
    assert documents.unique_values(USER, user(userName="ÄDA@X.io")) == [("userName", "äda@x.io")]


def test_unique_values_of_extensions_and_sub_attributes_are_listed():
    document = badge(number=7, doors=["D1", "d1", "d2"])
    assert documents.unique_values(WITH_BADGES, document) == [
        ("userName", "ada@x.io"),
        (f"{BADGES}:number", "7"),
        (f"{BADGES}:doors.value", "d1"),
        (f"{BADGES}:doors.value", "d2"),
    ]


def test_an_empty_string_is_no_unique_value():
    assert documents.unique_values(WITH_BADGES, badge(desk="")) == [
        ("userName", "ada@x.io"),
        (f"{BADGES}:number", "1"),
    ]


def test_lookup_values_of_a_user():
    document = user(
        externalId="00U", displayName="Ada", emails=["A@x.io", "a@X.io", {"value": "b@x"}, {"type": "x"}]
    )
    assert documents.lookup_values(USER, document) == {
        "external_id": "00U",
        "display_name": "ada",
        "emails": ["a@x.io", "b@x"],
    }


def test_lookup_values_of_a_group():
    assert documents.lookup_values(GROUP, group(displayName="Engine Room")) == {
        "external_id": None,
        "display_name": "engine room",
        "emails": [],
    }


def test_case_that_counts_is_not_folded():
    assert documents.fold(USER.attribute("externalId"), "AbC") == "AbC"


@pytest.mark.parametrize(
    ("left", "right"),
    [("STRASSE", "straße"), ("É", "e\u0301"), ("Å", "\u212b"), ("ﬁ", "FI"), ("Σ", "ς")],
)
def test_texts_that_differ_in_case_or_composition_only_are_the_same(left, right):
    name = USER.attribute("userName")
    assert documents.fold(name, left) == documents.fold(name, right)


def test_a_dotless_i_is_another_letter():
    name = USER.attribute("userName")
    assert documents.fold(name, "\u0131") != documents.fold(name, "i")


@given(st.text())
def test_folding_is_idempotent(text):
    name = USER.attribute("userName")
    assert documents.fold(name, documents.fold(name, text)) == documents.fold(name, text)


def test_what_is_immutable_can_be_set_once_only():
    before, after = badge(issued="2030-01-31T23:59:59Z"), badge(issued="2031-01-31T23:59:59Z")
    documents.refuse_immutable(WITH_BADGES, before, before)
    documents.refuse_immutable(WITH_BADGES, badge(), before)
    for changed in (after, badge()):
        with pytest.raises(errors.MutabilityViolated, match="issued"):
            documents.refuse_immutable(WITH_BADGES, before, changed)


# Properties.

names = st.sampled_from(
    [
        *(
            "userName",
            "USERNAME",
            "title",
            "active",
            "name",
            "emails",
            "roles",
            "password",
            "schemas",
            "groups",
        ),
        *(
            "manager",
            "members",
            "displayName",
            "externalId",
            "x509Certificates",
            "givenName",
            "value",
            "type",
        ),
        *("primary", "display", "$ref", "id", ENTERPRISE, f"{ENTERPRISE}:manager", BADGES, "number", "doors"),
    ]
)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
scalars |= st.sampled_from(
    ["True", "false", '{"value":"Admin"}', '{"value":"{\\"value\\":\\"x\\"}"}', schemas.USER]
)
json = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(names | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=400)
@given(
    st.sampled_from([USER, GROUP, WITH_BADGES]),
    st.dictionaries(names, json, max_size=6).map(lambda body: {"userName": "u", "displayName": "g", **body}),
)
def test_normalise_is_idempotent_pure_and_fails_as_a_protocol_error_only(resource_type, body):
    before = copy.deepcopy(body)
    try:
        document = documents.normalise(resource_type, body)
    except errors.ScimError as exc:
        exc.detail.encode()
        return
    finally:
        assert repr(body) == repr(before)
    assert documents.normalise(resource_type, document) == document
    assert "password" not in document
    assert None not in document.values()
    documents.unique_values(resource_type, document)
    documents.lookup_values(resource_type, document)


@given(st.text())
def test_reading_a_date_never_fails(text):
    values.date_time(text)


offsets = st.integers(-1439, 1439).map(lambda m: datetime.timezone(datetime.timedelta(minutes=m)))


@given(st.datetimes(timezones=offsets))
def test_dates_as_python_writes_them_are_read(moment):
    assert values.date_time(moment.isoformat()) == moment


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param({"userName": "a" * 1100}, "userName", id="unique"),
        pytest.param({"userName": "a", "externalId": "é" * 600}, "externalId", id="bytes, not characters"),
        pytest.param({"userName": "a", "displayName": "x" * 8000}, "displayName", id="display name"),
        pytest.param({"userName": "a", "emails": [{"value": "x" * 8000}]}, "emails.value", id="email"),
        pytest.param({"userName": "a", "roles": [f"r{n}" for n in range(1001)]}, "roles", id="many values"),
    ],
)
def test_what_no_index_could_hold_is_refused_by_name(body, named):
    # PostgreSQL would refuse it at the change's turn, and the tenant's stream would stand still.
    with pytest.raises(errors.InvalidValue, match=named):
        documents.normalise(USER, body)
