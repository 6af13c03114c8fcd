"""Messages and discovery: the bodies that the protocol prescribes."""

from __future__ import annotations

import pytest

from usher_core.scim import discoveries, documents, messages, schemas

REGISTRY = schemas.default()
BASE = "https://h/iam/scim/v2"


def test_an_empty_list_has_resources():
    assert messages.list_response([], 0) == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"],
        "totalResults": 0,
        "startIndex": 1,
        "itemsPerPage": 0,
        "Resources": [],
    }


def test_a_page_tells_its_place():
    page = messages.list_response([{"id": "a"}, {"id": "b"}], 9, 3)
    assert (page["totalResults"], page["startIndex"], page["itemsPerPage"]) == (9, 3, 2)
    assert messages.list_response([], 9, 3, 5)["itemsPerPage"] == 5


def test_the_status_of_an_error_is_a_string():
    assert messages.error(409, "uniqueness", "userName is taken.") == {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
        "status": "409",
        "scimType": "uniqueness",
        "detail": "userName is taken.",
    }


def test_an_error_without_a_type_has_none():
    assert set(messages.error(401, None, "x")) == {"schemas", "status", "detail"}


def test_the_service_promises_what_it_does():
    config = discoveries.service_provider_config(BASE, max_results=50, bulk_operations=7, bulk_payload=9)
    told = {
        name: config[name]["supported"]
        for name in ("patch", "bulk", "filter", "changePassword", "sort", "etag")
    }
    assert told == {
        "patch": True,
        "bulk": True,
        "filter": True,
        "changePassword": False,
        "sort": True,
        "etag": True,
    }
    assert config["bulk"] == {"supported": True, "maxOperations": 7, "maxPayloadSize": 9}
    less = discoveries.service_provider_config(BASE, patch=False, bulk=False)
    assert (less["patch"], less["bulk"]["supported"]) == ({"supported": False}, False)
    assert config["filter"]["maxResults"] == 50
    assert config["pagination"] == {
        "cursor": True,
        "index": True,
        "defaultPaginationMethod": "index",
        "defaultPageSize": 50,
        "maxPageSize": 50,
        "cursorTimeout": 3600,
    }
    assert [scheme["type"] for scheme in config["authenticationSchemes"]] == ["oauthbearertoken"]
    assert config["meta"]["location"] == f"{BASE}/ServiceProviderConfig"


def test_a_page_by_cursor_has_no_index_and_only_the_cursors_that_lead_somewhere():
    page = messages.cursor_response([{"id": "a"}], 9, "next", None)
    assert "startIndex" not in page
    assert (page["nextCursor"], "previousCursor" in page, page["itemsPerPage"]) == ("next", False, 1)
    assert messages.cursor_response([], 0, None, None)["Resources"] == []


def test_filters_give_200_results_unless_told_otherwise():
    assert discoveries.service_provider_config(BASE)["filter"]["maxResults"] == 200


def test_resource_types_are_described():
    listed = discoveries.resource_types(REGISTRY, BASE)
    assert listed["totalResults"] == 2
    assert listed["Resources"][0] == discoveries.resource_type(REGISTRY.by_name("User"), BASE)
    assert listed["Resources"][0]["endpoint"] == "/Users"
    assert listed["Resources"][0]["schemaExtensions"] == [
        {"schema": schemas.ENTERPRISE_USER, "required": False}
    ]
    assert listed["Resources"][1]["meta"]["location"] == f"{BASE}/ResourceTypes/Group"
    assert "schemaExtensions" not in listed["Resources"][1]


def test_a_resource_type_as_described_can_be_loaded():
    known = {schema.id: schema for schema in REGISTRY.schemas}
    described = discoveries.resource_type(REGISTRY.by_name("User"), BASE)
    loaded = schemas.load_resource_type(described, known)
    assert (loaded.name, loaded.endpoint, loaded.schemas) == (
        "User",
        "Users",
        REGISTRY.by_name("User").schemas,
    )


def test_schemas_are_described():
    listed = discoveries.schemas(REGISTRY, BASE)
    assert [s["id"] for s in listed["Resources"]] == [s.id for s in REGISTRY.schemas]
    assert all(s["meta"]["location"] == f"{BASE}/Schemas/{s['id']}" for s in listed["Resources"])


CONFIG = discoveries.service_provider_config(BASE, documentation_uri="https://h/docs")


@pytest.mark.parametrize(
    ("urn", "document"),
    [
        pytest.param(schemas.SERVICE_PROVIDER_CONFIG, CONFIG, id="ServiceProviderConfig"),
        pytest.param(
            schemas.RESOURCE_TYPE,
            discoveries.resource_types(REGISTRY, BASE)["Resources"][0],
            id="ResourceType",
        ),
        *(
            pytest.param(schemas.SCHEMA, schema, id=schema["name"])
            for schema in discoveries.schemas(REGISTRY, BASE)["Resources"]
            # RFC 7643 §7: the schema of schemas is nested one level deeper than it can say.
            if schema["id"] != schemas.SCHEMA
        ),
    ],
)
def test_discovery_documents_keep_to_their_own_schemas(urn, document):
    described = REGISTRY.by_schema(urn)
    kept = _read(described.attributes, document)
    assert kept == {name: value for name, value in document.items() if name not in ("schemas", "meta")}


def _read(attributes, document):
    """Keep what the schema knows, and see that what it requires is there and of its type."""
    kept = {}
    for attribute in attributes.values():
        value = document.get(attribute.name)
        if value is None:
            assert not attribute.required, attribute.name
            continue
        listed = value if attribute.multi_valued else [value]
        assert isinstance(listed, list)
        if attribute.type == "complex":
            listed = [_read(attribute.sub_attributes, item) for item in listed]
        else:
            kind = {"boolean": bool, "integer": int}.get(attribute.type, str)
            assert all(isinstance(item, kind) for item in listed), attribute.name
        kept[attribute.name] = listed if attribute.multi_valued else listed[0]
    return kept


def test_every_attribute_of_ours_is_described_in_words():
    for resource_type in REGISTRY.resource_types:
        assert all(reference.target.description for reference in documents.references_of(resource_type))
