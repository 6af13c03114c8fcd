"""Searches are read alike from a query and from a body, and refused in words."""

from __future__ import annotations

import pytest

from usher_core import errors
from usher_core.scim import evaluations, filters, roots, schemas, searches

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


@pytest.mark.parametrize(
    ("body", "error"),
    [
        pytest.param([], errors.InvalidSyntax, id="no object"),
        pytest.param({"schemas": ["urn:scim:schemas:core:1.0"]}, errors.InvalidVersion, id="SCIM 1.x"),
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
    ],
)
def test_a_filter_on_everything_is_narrowed_to_each_type(text, holds):
    group = {"displayName": "Team", "members": [{"value": "7"}], "meta": {"resourceType": "Group"}}
    wanted = filters.parse(text, roots.everything(REGISTRY))
    assert evaluations.matches(roots.narrow(wanted, REGISTRY.by_name("Group")), group) is holds


def test_a_name_that_means_another_kind_of_value_elsewhere_has_none_there():
    schema = schemas.load_schema(
        {"id": "urn:x:Gadget", "name": "Gadget", "attributes": [{"name": "title", "type": "integer"}]}
    )
    gadget = schemas.ResourceType("Gadget", "Gadgets", "", schema)
    everything = roots.everything(schemas.Registry((*REGISTRY.resource_types, gadget), ()))
    wanted = filters.parse('title eq "7"', everything)
    assert roots.narrow(wanted, gadget).attribute.target.type == "string"
    assert roots.narrow(wanted, REGISTRY.by_name("User")) == wanted


def test_what_no_type_has_is_unknown_to_all():
    with pytest.raises(errors.InvalidFilter, match="did you mean userName"):
        filters.parse('userNam eq "x"', roots.everything(REGISTRY))
