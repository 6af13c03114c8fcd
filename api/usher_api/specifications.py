"""The OpenAPI document, made of the routes and their descriptions, for whoever writes a client.

A route without a description is told all the same, with its path and the errors that every operation has.
Nothing of it is read while requests are served: what clients of SCIM ask is discovery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

import fastapi.routing
from starlette.routing import BaseRoute

from usher_api import answers, components, descriptions, shapes
from usher_core import __version__, errors
from usher_core.scim import schemas

OPENAPI_VERSION: Final = "3.1.0"

_INTRODUCTION: Final = f"""\
SCIM 2.0 (RFC 7643, RFC 7644, RFC 9865) under `{answers.BASE_PATH}`: users and groups, pushed by an identity
provider. A write is answered after it is committed; what is not known in time is a 503 with `Retry-After`.

Bodies are described in their proper form; much that identity providers send beside it is understood too.
HEAD works wherever GET does, and answers the same without a body. A method that a path does not have is
answered with 405 and `Allow` (`#/components/responses/MethodNotAllowed`). Every error is a SCIM error.
Which schemas, limits and resource types a tenant has, discovery tells: `ServiceProviderConfig`,
`ResourceTypes`, `Schemas`."""

# What any request may be answered with, whatever it asks for.
_ALWAYS: Final[tuple[type[errors.ScimError], ...]] = (
    errors.InvalidSyntax,
    errors.Unauthenticated,
    errors.Forbidden,
    errors.TooManyRequests,
    errors.ChangeFailed,
    errors.Unavailable,
)


def document(routes: Iterable[BaseRoute], registry: schemas.Registry) -> dict[str, Any]:
    """Make the document of these routes.

    A path that leaves the endpoint open stands for one path of each resource type in the registry.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if isinstance(route, fastapi.routing.APIRoute) and route.include_in_schema:
            kinds = registry.resource_types if "{endpoint}" in route.path_format else (None,)
            for kind in kinds:
                path = route.path_format.replace("{endpoint}", kind.endpoint if kind else "")
                operations = paths.setdefault(path, {})
                for method in sorted((route.methods or set()) - {"HEAD"}):
                    operations[method.lower()] = _operation(route, method, path, kind)
    return {
        "openapi": OPENAPI_VERSION,
        "info": {
            "title": "Usher",
            "version": __version__,
            "summary": "SCIM 2.0: users and groups, pushed by identity providers.",
            "description": _INTRODUCTION,
            "license": {"name": "Apache License 2.0", "identifier": "Apache-2.0"},
        },
        "tags": [
            {"name": kind.endpoint, "description": kind.description} for kind in registry.resource_types
        ],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": components.every(registry),
    }


def _operation(
    route: fastapi.routing.APIRoute, method: str, path: str, kind: schemas.ResourceType | None
) -> dict[str, Any]:
    described = descriptions.DESCRIPTIONS.get(route.name)
    known = described or descriptions.Description("{method}_" + route.name)
    words = {
        "method": method.lower(),
        "name": kind.name if kind else "",
        "endpoint": kind.endpoint if kind else "",
    }
    responses = {
        **_successes(known, words),
        **components.refusals(_refusals(known, kind)),
        "431": components.ref("responses", "HeadTooLarge"),
    }
    if described is None:
        responses |= {"2XX": {"description": "Done."}, "default": components.ref("responses", "Error")}
    operation: dict[str, Any] = {
        "operationId": known.operation_id.format_map(words),
        "summary": (route.description or route.name).partition("\n")[0].rstrip("."),
        "tags": [kind.endpoint if kind else _tag(path)],
        "parameters": [*_path_parameters(path), *(_parameter(name) for name in known.parameters)],
        "responses": dict(sorted(responses.items())),
    }
    if known.body is not None:
        shape = shapes.ref(known.body.format_map(words))
        operation["requestBody"] = {"required": True, "content": components.content(shape)}
    return operation


def _tag(path: str) -> str:
    """Name the group of what is no resource type's: the first part of the path."""
    return path.removeprefix(answers.BASE_PATH).strip("/").partition("/")[0].lstrip(".") or "root"


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        _parameter(name)
        if name in components.PARAMETERS
        else {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _parameter(name: str) -> dict[str, Any]:
    return dict(components.ref("parameters", name))


def _successes(described: descriptions.Description, words: Mapping[str, str]) -> dict[str, Any]:
    successes = {}
    for status, told in described.answers.items():
        shape = shapes.ref(told.shape.format_map(words)) if told.shape else None
        successes[str(status)] = answer = components.answer(told.words, shape, told.headers)
        if told.links:
            named = [operation_id.format_map(words) for operation_id in told.links]
            answer["links"] = {operation_id: _link(operation_id) for operation_id in named}
    return successes


def _link(operation_id: str) -> dict[str, Any]:
    return {"operationId": operation_id, "parameters": {"resource_id": "$response.body#/id"}}


def _refusals(
    described: descriptions.Description, kind: schemas.ResourceType | None
) -> list[type[errors.ScimError]]:
    """List the errors that an operation may tell, without a conflict where nothing is unique."""
    told = dict.fromkeys((*_ALWAYS, *described.refusals))
    if kind is not None and not _has_unique(kind):
        told.pop(errors.UniquenessViolated, None)
    return list(told)


def _has_unique(kind: schemas.ResourceType) -> bool:
    return any(
        attribute.uniqueness != "none"
        for schema in kind.schemas
        for top in schema.attributes.values()
        for attribute in (top, *top.sub_attributes.values())
    )
