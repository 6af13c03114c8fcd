"""Searches are read alike from a query and from a body, and refused in words."""

from __future__ import annotations

import pytest

from usher_core import errors
from usher_core.scim import evaluations, filters, messages, roots, schemas, searches

REGISTRY = schemas.default()


@pytest.mark.parametrize(
    ("parameters", "search"),
    [
        pytest.param({}, searches.Search(), id="nothing"),
        pytest.param({"startIndex": "0", "count": "-1"}, searches.Search(count=-1), id="below the first"),
        pytest.param({"startIndex": "", "count": ""}, searches.Search(), id="empty numbers"),
        pytest.param(
            {"startIndex": "9" * 30}, searches.Search(start_index=2**53), id="beyond all that there is"
        ),
        pytest.param({"sortOrder": "Descending"}, searches.Search(descending=True), id="any case"),
        pytest.param({"cursor": ""}, searches.Search(cursor=""), id="a first page by cursor"),
        pytest.param({"filter": ""}, searches.Search(filter=""), id="an empty filter is one"),
        pytest.param({"colour": "red", "aadOptscim062020": ""}, searches.Search(), id="stray parameters"),
        pytest.param({"attributes": "id,title"}, searches.Search(attributes="id,title"), id="attributes"),
    ],
)
def test_a_query_is_read(parameters, search):
    assert searches.from_parameters(parameters) == search


def test_a_body_says_the_same_as_a_query():
    body = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "filter": "title pr",
        "sortBy": "title",
        "sortOrder": "descending",
        "startIndex": 3,
        "count": 4,
        "attributes": ["id", "title"],
        "excludedAttributes": None,
    }
    parameters = {
        "filter": "title pr",
        "sortBy": "title",
        "sortOrder": "descending",
        "startIndex": "3",
        "count": "4",
        "attributes": "id,title",
    }
    assert searches.from_message(body) == searches.from_parameters(parameters)


@pytest.mark.parametrize("sent", [{}, {"schemas": []}, {"Schemas": [messages.SEARCH_REQUEST_SCHEMA.upper()]}])
def test_a_search_without_schemas_is_tolerated(sent):
    assert searches.from_message({**sent, "count": 3}) == searches.Search(count=3)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param([], errors.InvalidSyntax, id="no object"),
        pytest.param({"schemas": ["urn:scim:schemas:core:1.0"]}, errors.InvalidVersion, id="SCIM 1.x"),
        pytest.param({"schemas": ["urn:foo"], "filter": "id pr"}, errors.InvalidSyntax, id="another message"),
        pytest.param({"schemas": "urn:foo"}, errors.InvalidSyntax, id="another message, as a text"),
        pytest.param({"schemas": [schemas.USER, 7]}, errors.InvalidValue, id="schemas"),
        pytest.param({"filter": 1}, errors.InvalidValue, id="filter"),
        pytest.param({"sortBy": ["title"]}, errors.InvalidValue, id="sortBy"),
        pytest.param({"sortOrder": "down"}, errors.InvalidValue, id="sortOrder"),
        pytest.param({"startIndex": True}, errors.InvalidValue, id="startIndex"),
        pytest.param({"startIndex": 1.5}, errors.InvalidValue, id="half an index"),
        pytest.param({"count": "many"}, errors.InvalidCount, id="count"),
        pytest.param({"count": 0, "cursor": ""}, errors.InvalidCount, id="a page by cursor of none"),
        pytest.param({"cursor": 7}, errors.InvalidValue, id="cursor"),
        pytest.param({"attributes": {"id": True}}, errors.InvalidValue, id="attributes"),
    ],
)
def test_what_is_no_search_is_refused(body, error):
    with pytest.raises(error):
        searches.from_message(body)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        pytest.param('displayName eq "team"', True, id="a name that all types have"),
        pytest.param(f'{schemas.GROUP}:displayName eq "TEAM"', True, id="qualified by this type's URN"),
        pytest.param(f'{schemas.USER}:displayName eq "team"', False, id="qualified by another type's URN"),
        pytest.param('userName eq "team"', False, id="a name of another type"),
        pytest.param('userName ne "team" and not (emails pr)', True, id="without a value"),
        pytest.param('members[value eq "7"] and meta.resourceType eq "Group"', True, id="a value path"),
        pytest.param('emails[type eq "work"]', False, id="a value path of another type"),
        pytest.param(f"{schemas.ENTERPRISE_USER} pr", False, id="a schema of another type"),
        pytest.param('members[value eq "7"] or userName pr', True, id="one of two that it has"),
        pytest.param("not (userName pr or members pr)", False, id="neither of two"),
    ],
)
def test_a_filter_on_everything_is_narrowed_to_each_type(text, holds):
    group = {"displayName": "Team", "members": [{"value": "7"}], "meta": {"resourceType": "Group"}}
    wanted = filters.parse(text, roots.everything(REGISTRY))
    assert selects(roots.narrow(wanted, REGISTRY.resource_types), REGISTRY.by_name("Group"), group) is holds


def selects(narrowed, kind, document):
    """Whether what is asked of each type selects a document of one of them."""
    return kind in narrowed and (narrowed[kind] is None or evaluations.matches(narrowed[kind], document))


def gadgets():
    """Make a type whose names are those of users, and mean another kind of value."""
    subs = [{"name": "value"}, {"name": "type", "type": "integer"}, {"name": "size", "type": "integer"}]
    schema = schemas.load_schema(
        {
            "id": "urn:x:Gadget",
            "name": "Gadget",
            "attributes": [
                {"name": "title", "type": "integer"},
                {"name": "userName", "type": "integer", "uniqueness": "server"},
                {"name": "name"},
                {"name": "emails", "type": "complex", "multiValued": True, "subAttributes": subs},
            ],
        }
    )
    return schemas.ResourceType("Gadget", "Gadgets", "", schema)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        pytest.param('title eq "5"', False, id="equal as text"),
        pytest.param('title gt "10"', False, id="after it as text"),
        pytest.param("title pr", False, id="present, as another kind of value"),
        pytest.param('title ne "5"', True, id="unassigned, hence unequal"),
        pytest.param("title eq null", True, id="unassigned, hence null"),
        pytest.param("title ne null", False, id="unassigned, hence not otherwise"),
        pytest.param("urn:x:Gadget:title eq 5", True, id="by its own URN"),
        pytest.param('userName eq "7"', False, id="unique in either type"),
        pytest.param('name[givenName eq "x"]', False, id="elements of what has none here"),
        pytest.param("name.givenName eq null", True, id="a sub-attribute of what has none here"),
        pytest.param('emails[type eq "5"]', False, id="a sub-attribute of another type in an element"),
        pytest.param('emails[type ne "5"]', True, id="unequal in an element"),
        pytest.param('emails[type eq null and value eq "a"]', True, id="null in an element"),
        pytest.param('emails[value eq "a"]', True, id="of the same type in an element"),
        pytest.param("emails.type pr", False, id="a sub-attribute of another type"),
    ],
)
def test_a_name_that_means_another_kind_of_value_elsewhere_has_none_there(text, holds):
    gadget = gadgets()
    registry = schemas.Registry((*REGISTRY.resource_types, gadget), ())
    document = {"title": 5, "userName": 7, "name": "x", "emails": [{"value": "a", "type": 5}]}
    wanted = filters.parse(text, roots.everything(registry))
    narrowed = roots.narrow(wanted, registry.resource_types)
    assert selects(narrowed, gadget, document) is holds
    if "urn:" not in text:
        assert narrowed[REGISTRY.by_name("User")] == wanted


def test_what_no_type_has_is_unknown_to_all():
    with pytest.raises(errors.InvalidFilter, match="did you mean userName"):
        filters.parse('userNam eq "x"', roots.everything(REGISTRY))
