"""Filters: the grammar, the names, the types, the limits, and what they match."""

from __future__ import annotations

import string
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from usher_core import errors
from usher_core.scim import evaluations, filters, schemas

REGISTRY = schemas.default()
USER = REGISTRY.by_name("User")
GROUP = REGISTRY.by_name("Group")
ENTERPRISE = schemas.ENTERPRISE_USER

SENSORS = schemas.ResourceType(
    "Sensor",
    "Sensors",
    "",
    schemas.load_schema(
        {
            "id": "urn:example:scim:schemas:Sensor",
            "attributes": [
                {"name": "count", "type": "integer"},
                {"name": "weight", "type": "decimal"},
                {"name": "key", "type": "binary"},
                {"name": "tags", "multiValued": True, "caseExact": True},
                {"name": "seen", "type": "dateTime", "multiValued": True},
            ],
        }
    ),
)


def show(node: filters.Filter) -> str:
    """Write a tree down so that a table can hold it: paths, operators, values, and every grouping."""
    match node:
        case filters.And(left, right):
            return f"({show(left)} and {show(right)})"
        case filters.Or(left, right):
            return f"({show(left)} or {show(right)})"
        case filters.Not(inner):
            return f"not {show(inner)}"
        case filters.Comparison(attribute, operator, value):
            return f"{attribute.path} {operator} {value!r}"
        case filters.Presence(attribute):
            return f"{attribute.path} pr"
        case filters.ValuePath(attribute, inner):
            return f"{attribute.path}[{show(inner)}]"


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        pytest.param('userName eq "bob"', "userName eq 'bob'", id="comparison"),
        pytest.param("title pr", "title pr", id="presence"),
        pytest.param('title pr and userType eq "E"', "(title pr and userType eq 'E')", id="and"),
        pytest.param(
            "title pr or nickName pr and locale pr",
            "(title pr or (nickName pr and locale pr))",
            id="and binds before or",
        ),
        pytest.param(
            "title pr and nickName pr or locale pr",
            "((title pr and nickName pr) or locale pr)",
            id="or binds last",
        ),
        pytest.param(
            "(title pr or nickName pr) and locale pr",
            "((title pr or nickName pr) and locale pr)",
            id="grouping",
        ),
        pytest.param(
            "title pr or nickName pr or locale pr",
            "((title pr or nickName pr) or locale pr)",
            id="from left to right",
        ),
        pytest.param("not (title pr) and locale pr", "(not title pr and locale pr)", id="not binds first"),
        pytest.param("not(title pr)", "not title pr", id="not without a space"),
        pytest.param(
            'emails[type eq "work" and value co "@x.io"]',
            "emails[(emails.type eq 'work' and emails.value co '@x.io')]",
            id="value path",
        ),
        pytest.param(
            'emails[not (type eq "work")] and title pr',
            "(emails[not emails.type eq 'work'] and title pr)",
            id="value path with not",
        ),
        pytest.param(
            'emails[type eq "work"].value eq "a@x"',
            "emails[(emails.type eq 'work' and emails.value eq 'a@x')]",
            id="Entra: comparison after a value path",
        ),
        pytest.param(
            'emails[type eq "work" or primary eq true].value pr',
            "emails[((emails.type eq 'work' or emails.primary eq True) and emails.value pr)]",
            id="presence after a value path",
        ),
        pytest.param('name.familyName co "O\'Malley"', 'name.familyName co "O\'Malley"', id="sub-attribute"),
        pytest.param('emails co "x.org"', "emails.value co 'x.org'", id="multi-valued means value"),
        pytest.param(
            'id eq "u" and manager eq "m"',
            f"(id eq 'u' and {ENTERPRISE}:manager.value eq 'm')",
            id="Entra: manager without URN",
        ),
        pytest.param(
            f'{ENTERPRISE}:employeeNumber eq "7"', f"{ENTERPRISE}:employeeNumber eq '7'", id="extension"
        ),
        pytest.param(
            f'{ENTERPRISE.upper()}:MANAGER.DISPLAYNAME eq "B"',
            f"{ENTERPRISE}:manager.displayName eq 'B'",
            id="extension, any case, with a sub-attribute",
        ),
        pytest.param(f'{schemas.USER}:userName sw "J"', "userName sw 'J'", id="core URN"),
        pytest.param(
            f'{schemas.USER}:name.givenName sw "J"',
            "name.givenName sw 'J'",
            id="core URN with a sub-attribute",
        ),
        pytest.param(
            'meta.lastModified gt "2011-05-13T04:42:34Z"',
            "meta.lastModified gt '2011-05-13T04:42:34Z'",
            id="date",
        ),
        pytest.param(
            'USERNAME Eq "x" AND Title PR', "(userName eq 'x' and title pr)", id="PingFederate: odd case"
        ),
        pytest.param('email Co "x"', "emails.value co 'x'", id="PingFederate: alias email"),
        pytest.param("userName eq bob", "userName eq 'bob'", id="field failure 1: unquoted value"),
        pytest.param(
            "userName eq a+b@x.io and active eq TRUE",
            "(userName eq 'a+b@x.io' and active eq True)",
            id="field failure 1: unquoted, then more",
        ),
        pytest.param("(userName eq bob)", "userName eq 'bob'", id="field failure 1: unquoted in a group"),
        pytest.param("userName eq 123", "userName eq '123'", id="unquoted digits are text"),
        pytest.param('externalId eq "00U"', "externalId eq '00U'", id="field failure 3: externalId"),
        pytest.param('active eq "False"', "active eq False", id="field failure 9: boolean as string"),
        pytest.param("title eq null", "title eq None", id="null"),
        pytest.param("title ne NULL", "title ne None", id="null in any case"),
        pytest.param('title eq "null"', "title eq 'null'", id="the text null"),
        pytest.param(
            r'title eq "a \"b\" \\ \u00e9 \/ ]"', r"""title eq 'a "b" \\ é / ]'""", id="JSON escapes"
        ),
        pytest.param('title eq "x or y) pr"', "title eq 'x or y) pr'", id="grammar inside a string"),
        pytest.param('title eq ""', "title eq ''", id="empty string"),
        pytest.param('  title   eq\t"x"  ', "title eq 'x'", id="spaces"),
        pytest.param('groups.$ref co "x"', "groups.$ref co 'x'", id="$ref"),
        pytest.param('schemas eq "urn:x"', "schemas eq 'urn:x'", id="schemas"),
        pytest.param("name pr", "name pr", id="presence of a complex attribute"),
        pytest.param(f"{ENTERPRISE} pr", f"{ENTERPRISE} pr", id="presence of an extension"),
    ],
)
def test_a_filter_of_users_is_read(text, tree):
    assert show(filters.parse(text, USER)) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ('id eq "g" and members eq "u"', "(id eq 'g' and members.value eq 'u')"),
        ('members[value eq "u"]', "members[members.value eq 'u']"),
        ('displayName eq "G"', "displayName eq 'G'"),
    ],
)
def test_a_filter_of_groups_is_read(text, tree):
    assert show(filters.parse(text, GROUP)) == tree


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("count ge -5", "count ge -5"),
        ("weight lt 1.5e3", "weight lt 1500.0"),
        ("weight eq 2", "weight eq 2"),
        ("count eq 9223372036854775807", "count eq 9223372036854775807"),
        ("count ge -9223372036854775808", "count ge -9223372036854775808"),
        ("weight eq 9223372036854775807", "weight eq 9223372036854775807"),
        ("weight eq 9223372036854775808", "weight eq 9.223372036854776e+18"),
        ("weight eq 10000000000000000000000000", "weight eq 1e+25"),
        ("weight eq 1234567890123456789.5", "weight eq 1.2345678901234568e+18"),
        ('tags[value eq "a"]', "tags[tags eq 'a']"),
    ],
)
def test_a_filter_on_a_schema_of_the_tenant_is_read(text, tree):
    assert show(filters.parse(text, SENSORS)) == tree


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("", "attribute is expected", id="empty"),
        pytest.param("title", "operator", id="attribute alone"),
        pytest.param("title eq", "value is expected", id="no value"),
        pytest.param("title eq )", "value is expected", id="bracket for a value"),
        pytest.param("title is x", "is stands at character 7", id="unknown operator"),
        pytest.param('title eq "x', "character 10 has no end", id="string without end"),
        pytest.param("title eq My Group", "Group stands", id="two unquoted words"),
        pytest.param("title pr and", "attribute is expected", id="nothing after and"),
        pytest.param("(title pr", ") is expected", id="group without end"),
        pytest.param("title pr)", ") stands", id="group without beginning"),
        pytest.param("not title pr", "not is no attribute", id="not without a group"),
        pytest.param('"title" eq "x"', "attribute is expected", id="quoted attribute"),
        pytest.param('usrName eq "x"', "did you mean userName", id="unknown attribute"),
        pytest.param(
            'foo eq "x"', "foo is no attribute of User; the nearest name is photos.", id="like none"
        ),
        pytest.param("中 pr", "中 is no attribute of User; the nearest name is id.", id="in another script"),
        pytest.param('name.givName eq "x"', "did you mean name.givenName", id="unknown sub-attribute"),
        pytest.param('userName.x eq "x"', "userName.x", id="sub-attribute of a simple one"),
        pytest.param('urn:x:y:titel eq "x"', "urn:x:y:titel is no attribute", id="unknown URN"),
        pytest.param('urn:x:y:titel eq "x"', "did you mean title", id="unknown URN before a near name"),
        pytest.param(
            f'{ENTERPRISE}:departmnt eq "x"',
            f"departmnt is no attribute of {ENTERPRISE}; did you mean dep",
            id="unknown name of an extension",
        ),
        pytest.param('emails[typ eq "x"]', "did you mean type", id="unknown name in a value path"),
        pytest.param('emails[emails[type eq "x"] pr]', "nested", id="nested value paths"),
        pytest.param('emails[type[value eq "x"]]', "nested", id="value path in a value path"),
        pytest.param("emails[]", "attribute is expected", id="empty value path"),
        pytest.param('emails[type eq "x"', "] is expected", id="value path without end"),
        pytest.param('title[value eq "x"]', "title has no values", id="value path on a simple attribute"),
        pytest.param(
            'emails.value[value eq "x"]', "emails.value has no values", id="value path on a sub-attribute"
        ),
        pytest.param(f'{ENTERPRISE}[division eq "x"]', "is a schema", id="value path on a schema"),
        pytest.param('name eq "x"', "name is complex", id="complex without value"),
        pytest.param('addresses eq "x"', "addresses is complex", id="multi-valued without value"),
        pytest.param('password eq "x"', "password can't be used", id="password"),
        pytest.param("password pr", "password can't be used", id="presence of a password"),
        pytest.param('active eq "yes"', "active is a boolean", id="boolean with another text"),
        pytest.param("active gt true", "gt can't be used", id="order of booleans"),
        pytest.param('active co "t"', "co can't be used", id="part of a boolean"),
        pytest.param('meta.created gt "yesterday"', "meta.created", id="no date"),
        pytest.param('meta.created sw "2011"', "sw can't be used", id="part of a date"),
        pytest.param("title gt null", "null", id="order of null"),
        pytest.param(r'title eq "\x"', "no JSON string", id="unknown escape"),
        pytest.param(r'title eq "\u0000"', "title has a NUL", id="NUL"),
        pytest.param(r'title eq "\ud800"', "title has half a character", id="lone surrogate"),
        pytest.param("title eq \0", "character", id="bare NUL"),
        pytest.param("title eq \ud800", "character", id="bare lone surrogate"),
    ],
)
def test_a_wrong_filter_is_refused_and_the_fault_named(text, named):
    with pytest.raises(errors.InvalidFilter) as caught:
        filters.parse(text, USER)
    assert named in caught.value.detail


@pytest.mark.parametrize(
    "text",
    [
        'count eq "5"',
        "count eq 1.5",
        "count eq five",
        "count co 5",
        "count eq 9223372036854775808",
        "count lt -9223372036854775809",
        "count eq 1e2",
        f"weight eq {'9' * 309}",
        "weight eq 1e999",
        "weight eq nan",
        'key gt "YQ=="',
    ],
)
def test_a_value_of_another_type_is_refused(text):
    with pytest.raises(errors.InvalidFilter, match=text.partition(" ")[0]):
        filters.parse(text, SENSORS)


def test_the_name_of_a_simple_value_is_told():
    with pytest.raises(errors.InvalidFilter, match="tag is no attribute of tags; the nearest name is value"):
        filters.parse('tags[tag eq "a"]', SENSORS)


def test_an_extension_is_compared_by_none_of_its_attributes_whatever_it_is_called():
    more = schemas.load_schema({"id": "urn:x:More", "attributes": [{"name": "value"}]})
    extended = schemas.ResourceType("Sensor", "Sensors", "", SENSORS.schema, (schemas.Extension(more),))
    assert show(filters.parse('urn:x:More:value eq "a"', extended)) == "urn:x:More:value eq 'a'"
    with pytest.raises(errors.InvalidFilter, match="urn:x:More is complex"):
        filters.parse('urn:x:More eq "a"', extended)


@pytest.mark.parametrize(
    ("fits", "breaks", "limit"),
    [
        pytest.param(f'title eq "{"x" * 8181}"', f'title eq "{"x" * 8182}"', "8192", id="length"),
        pytest.param(" or ".join(["title pr"] * 50), " or ".join(["title pr"] * 51), "100", id="nodes"),
        pytest.param("(" * 20 + "title pr" + ")" * 20, "(" * 21 + "title pr" + ")" * 21, "20", id="depth"),
        pytest.param(
            "not (" * 20 + "title pr" + ")" * 20,
            "not (" * 21 + "title pr" + ")" * 21,
            "20",
            id="depth of not",
        ),
    ],
)
def test_limits_are_enforced_and_told(fits, breaks, limit):
    filters.parse(fits, USER)
    with pytest.raises(errors.InvalidFilter, match=limit):
        filters.parse(breaks, USER)


def test_groups_side_by_side_are_not_deep():
    filters.parse(" or ".join(["(title pr)", 'emails[type eq "x"]'] * 15), USER)


def test_an_error_is_short_and_can_be_encoded():
    with pytest.raises(errors.InvalidFilter) as caught:
        filters.parse("x" * 8000 + " pr", USER)
    assert len(caught.value.detail) < 200


def test_trees_are_frozen_and_equal_when_they_say_the_same():
    left, right = (filters.parse(text, USER) for text in ('userName eq "a"', 'USERNAME EQ "a"'))
    assert left == right
    assert hash(left) == hash(right)
    with pytest.raises(AttributeError):
        left.operator = "ne"  # type: ignore[union-attr,misc]


words = st.sampled_from(
    [
        *(
            '"',
            '"x"',
            "(",
            ")",
            "[",
            "]",
            " ",
            ".",
            "and",
            "or",
            "not",
            "pr",
            "eq",
            "gt",
            "co",
            "null",
            "true",
        ),
        *(
            "userName",
            "emails",
            "type",
            ".value",
            "active",
            "meta.created",
            "manager",
            "5",
            "1.5",
            "\\",
            "\0",
        ),
        *(
            ENTERPRISE,
            f"{ENTERPRISE}:manager",
            "urn:",
            ":",
            "$ref",
            "not (",
            "emails[",
            'type eq "work"',
            "İ",
        ),
    ]
)


@settings(max_examples=500)
@given(st.text() | st.lists(words | st.text(max_size=2), max_size=25).map(" ".join))
@example("(" * 8000)
@example("not(" * 2000)
@example('"' + "\\" * 8000)
@example("emails[" * 1000)
@example("title eq " + "9" * 5000)
def test_any_text_is_a_filter_or_an_invalid_filter(text):
    for resource_type in (USER, GROUP, SENSORS):
        try:
            tree = filters.parse(text, resource_type)
        except errors.InvalidFilter as exc:
            exc.detail.encode()
        else:
            evaluations.matches(tree, {})


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_can_be_looked_for(text):
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    tree = filters.parse(f"externalId eq {quoted}", USER)
    assert tree.value == text  # type: ignore[union-attr]
    assert evaluations.matches(tree, {"externalId": text})


# What filters match.

ADA = {
    "id": "u1",
    "userName": "Ada@x.io",
    "externalId": "aB",
    "active": True,
    "nickName": "",
    "name": {"givenName": "Ada", "familyName": "Lovelace"},
    "emails": [
        {"value": "ada@x.io", "type": "work", "primary": True},
        {"value": "ada@home.org", "type": "home"},
    ],
    "meta": {"created": "2030-01-01T00:00:00Z"},
    ENTERPRISE: {"employeeNumber": "7", "manager": {"value": "m"}},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param('userName eq "ADA@X.IO"', True, id="field failure 18: case does not count"),
        pytest.param('externalId eq "ab"', False, id="case counts"),
        pytest.param('externalId eq "aB"', True, id="exact"),
        pytest.param('userName ne "ada@x.io"', False, id="ne"),
        pytest.param('title ne "x"', True, id="ne of what is unassigned"),
        pytest.param('title eq "x"', False, id="eq of what is unassigned"),
        pytest.param("title eq null", True, id="eq null of what is unassigned"),
        pytest.param("title ne null", False, id="ne null of what is unassigned"),
        pytest.param("active eq null", False, id="eq null of what is assigned"),
        pytest.param("active ne null", True, id="ne null of what is assigned"),
        pytest.param("active eq true", True, id="boolean"),
        pytest.param("active ne true", False, id="ne of a boolean"),
        pytest.param('userName co "DA@"', True, id="co"),
        pytest.param('userName sw "ad"', True, id="sw"),
        pytest.param('userName ew ".IO"', True, id="ew"),
        pytest.param('userName ew "Ada"', False, id="not ew"),
        pytest.param('title co ""', False, id="co of what is unassigned"),
        pytest.param('userName gt "ada@w"', True, id="gt"),
        pytest.param('userName ge "ada@x.io"', True, id="ge"),
        pytest.param('userName lt "ada@x.io"', False, id="lt"),
        pytest.param('userName le "ada@x.io"', True, id="le"),
        pytest.param('title gt ""', False, id="gt of what is unassigned"),
        pytest.param('emails.type eq "home"', True, id="any element"),
        pytest.param('emails ne "ada@x.io"', True, id="any other element"),
        pytest.param('emails eq "ADA@HOME.ORG"', True, id="value of any element"),
        pytest.param('emails.type eq "home" and emails.primary eq true', True, id="different elements"),
        pytest.param('emails[type eq "home" and primary eq true]', False, id="one element"),
        pytest.param(
            'emails[type eq "home" and primary ne true]', True, id="ne of an unassigned sub-attribute"
        ),
        pytest.param('emails[type eq "work"].value eq "ada@x.io"', True, id="Entra's form"),
        pytest.param('emails[type eq "home"].value eq "ada@x.io"', False, id="Entra's form, other element"),
        pytest.param('phoneNumbers[type ne "work"]', False, id="value path on nothing"),
        pytest.param('manager[value eq "m"]', True, id="value path on one value"),
        pytest.param('manager eq "m"', True, id="extension"),
        pytest.param(f'{ENTERPRISE}:employeeNumber eq "8"', False, id="extension differs"),
        pytest.param('meta.created eq "2030-01-01T01:00:00+01:00"', True, id="the same moment"),
        pytest.param('meta.created lt "2030-01-01T00:00:00.001Z"', True, id="an earlier moment"),
        pytest.param("name pr", True, id="pr of a complex attribute"),
        pytest.param("emails pr", True, id="pr of a list"),
        pytest.param("nickName pr", False, id="pr of an empty string"),
        pytest.param("title pr", False, id="pr of what is unassigned"),
        pytest.param("emails.display pr", False, id="pr of an unassigned sub-attribute"),
        pytest.param(f"{ENTERPRISE} pr", True, id="pr of an extension"),
        pytest.param("not (title pr)", True, id="not"),
        pytest.param("title pr or active eq true", True, id="or"),
        pytest.param("title pr and active eq true", False, id="and"),
    ],
)
def test_a_filter_matches(text, expected):
    assert evaluations.matches(filters.parse(text, USER), ADA) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("count gt 3", True),
        ("count gt 4", False),
        ("weight le 1.5", True),
        ('tags eq "a"', True),
        ('tags eq "A"', False),
        ('tags[value sw "b"]', True),
        ('seen gt "2031-01-01T00:00:00Z"', True),
    ],
)
def test_a_filter_on_a_schema_of_the_tenant_matches(text, expected):
    sensor = {
        "count": 4,
        "weight": 1.5,
        "tags": ["a", "bc"],
        "seen": ["2030-01-01T00:00:00Z", "2032-01-01T00:00:00Z"],
    }
    assert evaluations.matches(filters.parse(text, SENSORS), sensor) is expected


def test_members_are_matched_where_the_document_has_them():
    tree = filters.parse('members[value eq "u1"]', GROUP)
    members: list[dict[str, Any]] = [{"value": "u1", "type": "User"}]
    assert evaluations.matches(tree, {"members": members})
    assert not evaluations.matches(tree, {"members": []})
    assert not evaluations.matches(tree, {})


simple = st.sampled_from(["title", "nickName", "active", "locale", 'emails[type eq "work"]']).map(
    lambda name: name if "[" in name else f"{name} pr"
)
logical = st.recursive(
    simple,
    lambda inner: (
        st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda t: f"({t[0]}) {t[1]} ({t[2]})")
        | inner.map(lambda text: f"not ({text})")
    ),
    max_leaves=6,
)


@given(logical, st.lists(st.sampled_from(string.ascii_lowercase), max_size=3))
def test_a_filter_matches_what_its_negation_does_not(text, letters):
    document = {
        "title": "".join(letters),
        "active": bool(letters),
        "emails": [{"type": "work"}] * len(letters),
    }
    if text.count("(") < 20:
        tree = filters.parse(text, USER)
        assert evaluations.matches(tree, document) is not evaluations.matches(filters.Not(tree), document)
