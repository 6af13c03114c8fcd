"""The reusable parts of the OpenAPI document: shapes, parameters, headers, and a response for each error.

`descriptions` refers to them by name. What the tree of errors tells is read from there, never written twice.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final

from usher_api import answers, resource_shapes, shapes
from usher_core import errors
from usher_core.scim import schemas


def ref(section: str, name: str) -> dict[str, str]:
    """Refer to a component."""
    return {"$ref": f"#/components/{section}/{name}"}


def content(shape: shapes.Shape) -> dict[str, Any]:
    """Describe a body in both media types of the protocol (RFC 7644 §3.1)."""
    return {media_type: {"schema": shape} for media_type in (answers.SCIM, answers.JSON)}


def every(registry: schemas.Registry) -> dict[str, Any]:
    """Make all components; the resources are those of the registry."""
    return {
        "securitySchemes": SECURITY_SCHEMES,
        "parameters": PARAMETERS,
        "headers": HEADERS,
        "responses": _responses(),
        "schemas": {
            **resource_shapes.every(registry),
            **shapes.every([kind.name for kind in registry.resource_types]),
        },
    }


# Parameters and headers


def _query(name: str, schema: shapes.Shape, words: str) -> dict[str, Any]:
    parameter: dict[str, Any] = {"name": name, "in": "query", "schema": schema, "description": words}
    if schema["type"] == "array":
        parameter |= {"style": "form", "explode": False}  # RFC 7644 §3.9: separated by commas
    return parameter


def _path(name: str, schema: shapes.Shape, words: str) -> dict[str, Any]:
    return {"name": name, "in": "path", "required": True, "schema": schema, "description": words}


def _header(name: str, words: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "schema": {"type": "string"}, "description": words}


PARAMETERS: Final[Mapping[str, dict[str, Any]]] = {
    **{name: _query(name, schema, words) for name, (schema, words) in shapes.SEARCH.items()},
    "resource_id": _path("resource_id", {"type": "string", "format": "uuid"}, "The `id` of the resource."),
    "name": _path("name", {"type": "string", "examples": ["User"]}, "The name of the resource type."),
    "urn": _path("urn", {"type": "string", "examples": [schemas.USER]}, "The URN of the schema."),
    "If-Match": _header("If-Match", "Change only what is at one of these versions: entity tags, or `*`."),
    "If-None-Match": _header("If-None-Match", "Answer 304 if the resource is still at this version."),
}

HEADERS: Final[Mapping[str, dict[str, Any]]] = {
    # What is refused before it is a request has no id.
    name: {"schema": {"type": type_}, "description": words, "required": name != "X-Request-Id"}
    for name, type_, words in (
        ("ETag", "string", "The version of the resource, as in `meta.version`."),
        ("Location", "string", "The URL of the new resource, as in `meta.location`."),
        ("Retry-After", "integer", "After how many seconds to try again."),
        ("WWW-Authenticate", "string", "The challenge: a bearer token."),
        ("Allow", "string", "The methods that the path has."),
        ("Accept", "string", "The media types that a body may have."),
        ("X-Request-Id", "string", "The id of the request in the log; the client's own if it sent one."),
    )
}  # fmt: skip

SECURITY_SCHEMES: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "The token that was issued to the tenant's identity provider (RFC 6750).",
    }
}


# Errors

_HEADERS_OF: Final[Mapping[type[errors.ScimError], str]] = {
    errors.Unauthenticated: "WWW-Authenticate",
    errors.MethodNotAllowed: "Allow",
    errors.UnsupportedMediaType: "Accept",
    errors.TooManyRequests: "Retry-After",
    errors.Unavailable: "Retry-After",
}


def refusals(kinds: Iterable[type[errors.ScimError]]) -> dict[str, Any]:
    """Describe the answers that tell these errors, by status; those of status 400 are told by scimType."""
    told = {str(kind.status): ref("responses", kind.__name__) for kind in kinds if kind.status != 400}
    typed = {kind.scim_type: kind for kind in kinds if kind.status == 400}
    if typed:
        words = "\n".join(f"- `{name}`: {_meaning(kind)}" for name, kind in typed.items())
        named = {"properties": {"scimType": {"enum": list(typed)}}}
        told["400"] = _refusal(words, {"allOf": [shapes.ref("Error"), named]})
    return told


def _responses() -> dict[str, Any]:
    kinds = [kind for kind in errors.ScimError.__subclasses__() if kind.status != 400]
    return {
        "Error": _refusal("An error.", shapes.ref("Error")),
        "HeadTooLarge": _refusal("The request line and headers are too long.", shapes.ref("Error")),
        **{
            kind.__name__: _refusal(_meaning(kind), shapes.ref("Error"), _HEADERS_OF.get(kind))
            for kind in kinds
        },
    }


def _meaning(kind: type[errors.ScimError]) -> str:
    """Say what an error means: the first line of its own description."""
    return (inspect.getdoc(kind) or "").partition("\n")[0]


def _refusal(words: str, shape: shapes.Shape, header: str | None = None) -> dict[str, Any]:
    return answer(words, shape, () if header is None else (header,))


def answer(words: str, shape: shapes.Shape | None, headers: Iterable[str]) -> dict[str, Any]:
    """Describe one answer; every one has the id of its request."""
    told: dict[str, Any] = {
        "description": words,
        "headers": {name: ref("headers", name) for name in (*headers, "X-Request-Id")},
    }
    return told if shape is None else told | {"content": content(shape)}
