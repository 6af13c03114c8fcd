"""The OpenAPI document is well-formed and whole: each route, each error, each parameter is in it."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import fastapi.routing
import jsonschema
import openapi_spec_validator
import pytest

from usher_api import applications, descriptions, routes, specifications
from usher_core import errors
from usher_core.scim import schemas, searches

DOCUMENT = specifications.document(routes.router.routes, schemas.default())
OPERATIONS = {
    f"{method} {path}": operation
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
}


def test_the_document_is_openapi() -> None:
    openapi_spec_validator.validate(DOCUMENT)


def test_the_application_serves_it() -> None:
    app = applications.Application()
    app.router.routes.extend(routes.router.routes)
    assert app.openapi() == DOCUMENT
    assert app.openapi() is app.openapi()


def test_every_route_has_a_description_and_every_description_a_route() -> None:
    named = {route.name for route in routes.router.routes if isinstance(route, fastapi.routing.APIRoute)}
    assert named == descriptions.DESCRIPTIONS.keys()


def test_every_operation_can_be_told_from_the_others() -> None:
    named = [operation["operationId"] for operation in OPERATIONS.values()]
    assert len(set(named)) == len(named)
    assert all(operation["summary"] for operation in OPERATIONS.values())


async def _added(_: Any) -> Any:
    """Do what nobody described."""


def test_a_route_without_a_description_tells_its_path_and_its_errors() -> None:
    route = routes.DirectRoute("/iam/scim/v2/New/{part}", _added, methods=["POST"])
    told = specifications.document([route], schemas.default())
    openapi_spec_validator.validate(told)
    operation = told["paths"]["/iam/scim/v2/New/{part}"]["post"]
    assert operation["summary"] == "Do what nobody described"
    assert [parameter["name"] for parameter in operation["parameters"]] == ["part"]
    assert {"2XX", "400", "401", "403", "500", "503", "default"} <= operation["responses"].keys()


# Told by no operation: it is what another path is answered with, or nothing.
BESIDE = {errors.MethodNotAllowed, errors.TooMany}


@pytest.mark.parametrize("kind", sorted(set(errors.ScimError.__subclasses__()) - BESIDE, key=str))
def test_every_error_is_told_by_an_operation(kind: type[errors.ScimError]) -> None:
    told = [operation["responses"].get(str(kind.status), {}) for operation in OPERATIONS.values()]
    assert any(
        f"`{kind.scim_type}`: " in answer["description"]
        if kind.status == 400
        else answer.get("$ref", "").endswith(f"/{kind.__name__}")
        for answer in told
        if answer
    )


def test_a_conflict_is_told_only_where_something_is_unique() -> None:
    assert "409" in OPERATIONS["post /iam/scim/v2/Users"]["responses"]
    assert "409" not in OPERATIONS["post /iam/scim/v2/Groups"]["responses"]


def test_a_search_takes_the_same_by_query_and_by_body() -> None:
    by_query = [
        parameter["$ref"].rpartition("/")[2]
        for parameter in OPERATIONS["get /iam/scim/v2/Users"]["parameters"]
    ]
    by_body = DOCUMENT["components"]["schemas"]["SearchRequest"]["properties"].keys() - {"schemas"}
    assert set(by_query) == by_body == set(searches._NAMES)


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        yield from itertools.chain.from_iterable(map(references, part))


def test_every_reference_leads_somewhere() -> None:
    known = {
        f"#/components/{section}/{name}" for section, held in DOCUMENT["components"].items() for name in held
    }
    assert set(references(DOCUMENT)) <= known


# Shapes, from the schemas of SCIM


def shape(name: str) -> Any:
    return DOCUMENT["components"]["schemas"][name]


def test_a_resource_is_sent_with_what_it_needs_and_without_what_is_the_services_own() -> None:
    sent = shape("UserInput")
    assert sent["required"] == ["schemas", "userName"]
    assert not {"id", "meta", "groups"} & sent["properties"].keys()
    assert sent["properties"]["password"]["writeOnly"] is True
    assert sent["properties"]["emails"]["maxItems"] == 1000
    assert "maxItems" not in shape("GroupInput")["properties"]["members"]


def test_a_resource_is_answered_without_secrets_and_perhaps_without_most() -> None:
    shown = shape("User")
    assert shown["required"] == ["schemas", "id"]
    assert "password" not in shown["properties"]
    assert shown["properties"]["groups"]["readOnly"] is True
    extension = shown["properties"][schemas.ENTERPRISE_USER]
    assert extension == {"$ref": "#/components/schemas/EnterpriseUser"}
    assert "displayName" not in shape("EnterpriseUserInput")["properties"]["manager"]["properties"]


def test_the_types_of_scim_are_those_of_json() -> None:
    user = shape("User")["properties"]
    assert user["active"]["type"] == "boolean"
    assert user["meta"]["properties"]["created"] == {
        "type": "string",
        "format": "date-time",
        "readOnly": True,
    }
    assert user["x509Certificates"]["items"]["properties"]["value"]["contentEncoding"] == "base64"
    assert user["emails"]["items"]["properties"]["type"]["examples"] == ["work", "home", "other"]
    assert (
        shape("ServiceProviderConfig")["properties"]["filter"]["properties"]["maxResults"]["type"]
        == "integer"
    )


def test_an_example_is_valid() -> None:
    for name in ("UserInput", "GroupInput", "PatchOp"):
        for example in shape(name)["examples"]:
            jsonschema.Draft202012Validator(shape(name) | {"components": DOCUMENT["components"]}).validate(
                example
            )
