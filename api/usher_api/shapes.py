"""JSON Schemas of the messages of the protocol (RFC 7644 §3.4.2, §3.4.3, §3.5.2, §3.12).

`components` puts them into the OpenAPI document, beside those of `resource_shapes`. What is described is the
proper form: what is tolerated beside it, for clients' sake, is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from usher_core import errors
from usher_core.scim import bulks, filters, messages, operations, paths

Shape = dict[str, Any]


def ref(name: str) -> Shape:
    """Refer to a shape by its name in the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def every(resources: Sequence[str]) -> dict[str, Shape]:
    """Make all of them by name; `resources` names the shapes of those that a search may find."""
    lists = {f"{name}List": _list_of(name) for name in (*resources, "ResourceType", "Schema")}
    return {
        **lists,
        "ListResponse": _list_of(*resources),
        "SearchRequest": _search_request(),
        "PatchOp": _patch_op(),
        "BulkRequest": _bulk_request(),
        "BulkResponse": _bulk_response(),
        "Error": _error(),
    }


def naming(urn: str) -> Shape:
    """Describe the list of an object's schemas, one of which is `urn`."""
    return {
        "type": "array",
        "items": {"type": "string"},
        "contains": {"const": urn},
        "examples": [[urn]],
        "description": "The URNs of the schemas that the object obeys.",
    }


def _list_of(*names: str) -> Shape:
    items = [ref(name) for name in names]
    return {
        "type": "object",
        "properties": {
            "schemas": naming(messages.LIST_RESPONSE_SCHEMA),
            "totalResults": {"type": "integer", "minimum": 0},
            "itemsPerPage": {"type": "integer", "minimum": 0},
            "startIndex": {"type": "integer", "minimum": 1, "description": "Absent with a cursor."},
            "nextCursor": {"type": "string", "description": "Absent on the last page."},
            "previousCursor": {"type": "string", "description": "Absent on the first page."},
            "Resources": {"type": "array", "items": items[0] if len(items) == 1 else {"anyOf": items}},
        },
        "required": ["schemas", "totalResults", "itemsPerPage", "Resources"],
    }


_NAMES: Final[Shape] = {
    "type": "array",
    "items": {"type": "string"},
    "examples": [["displayName", "meta.lastModified"]],
}

SEARCH: Final[Mapping[str, tuple[Shape, str]]] = {
    "filter": (
        {
            "type": "string",
            "minLength": 1,
            "maxLength": filters.MAX_LENGTH,
            "examples": ['externalId eq "42"', 'id pr and not (displayName sw "A")'],
        },
        "What the resources must match (RFC 7644 §3.4.2.2).",
    ),
    "sortBy": (
        {"type": "string", "examples": ["displayName"]},
        "The attribute to sort by; without one the order is that of creation.",
    ),
    "sortOrder": (
        {"type": "string", "enum": ["ascending", "descending"], "default": "ascending"},
        "The direction of the order.",
    ),
    "startIndex": ({"type": "integer", "default": 1}, "The first result, from 1; what is below is 1."),
    "count": (
        {"type": "integer"},
        "How many results at most; below 0 is 0, and with a cursor it is at least 1. "
        "ServiceProviderConfig tells the default and the limit, to which more is cut down.",
    ),
    "cursor": (
        {"type": "string"},
        "The cursor of a page, or an empty one for the first page (RFC 9865). The query stays the same.",
    ),
    "attributes": (_NAMES, "The attributes to show, and no others but those that are always shown."),
    "excludedAttributes": (_NAMES, "The attributes to leave out; not together with `attributes`."),
}


def _search_request() -> Shape:
    return {
        "type": "object",
        "properties": {
            "schemas": naming(messages.SEARCH_REQUEST_SCHEMA),
            **{name: shape | {"description": words} for name, (shape, words) in SEARCH.items()},
        },
        "required": ["schemas"],
    }


def _patch_op() -> Shape:
    operation: Shape = {
        "type": "object",
        "properties": {
            "op": {"type": "string", "enum": ["add", "remove", "replace"]},
            "path": {
                "type": "string",
                "maxLength": paths.MAX_LENGTH,
                "description": 'An attribute, such as `emails[type eq "work"].value`. A remove needs one; '
                "without one the value is an object of attributes.",
            },
            "value": {"description": "What to add or to put in place; what to remove, if not all."},
        },
        "required": ["op"],
    }
    return {
        "type": "object",
        "properties": {
            "schemas": naming(messages.PATCH_OP_SCHEMA),
            "Operations": {
                "type": "array",
                "description": "Applied in order, all or none.",
                "minItems": 1,
                "maxItems": operations.MAX_OPERATIONS,
                "items": operation,
            },
        },
        "required": ["schemas", "Operations"],
        "examples": [
            {
                "schemas": [messages.PATCH_OP_SCHEMA],
                "Operations": [{"op": "replace", "path": "displayName", "value": "Ada"}],
            }
        ],
    }


_BULK_OPERATION: Final[Mapping[str, Shape]] = {
    "method": {"type": "string", "enum": list(bulks.METHODS)},
    "bulkId": {"type": "string", "description": "The client's name for what a POST creates."},
    "version": {"type": "string", "description": "The version, as in `ETag`; sent, it is an `If-Match`."},
}


def _bulk_request() -> Shape:
    operation: Shape = {
        "type": "object",
        "properties": {
            **_BULK_OPERATION,
            "path": {
                "type": "string",
                "description": "Relative to the base: `/Users`, or `/Users/bulkId:ada` for what another "
                "operation creates.",
                "examples": ["/Users"],
            },
            "data": {"type": "object", "description": "The body that the operation would have alone."},
        },
        "required": ["method", "path"],
    }
    return {
        "type": "object",
        "properties": {
            "schemas": naming(messages.BULK_REQUEST_SCHEMA),
            "failOnErrors": {
                "type": "integer",
                "minimum": 1,
                "description": "After so many errors no further operation is begun.",
            },
            "Operations": {"type": "array", "minItems": 1, "items": operation},
        },
        "required": ["schemas", "Operations"],
    }


def _bulk_response() -> Shape:
    operation: Shape = {
        "type": "object",
        "properties": {
            # An operation is told as it was sent, even with a method that there is not.
            **_BULK_OPERATION,
            "method": {"type": "string"},
            "location": {"type": "string", "description": "The URL of the resource."},
            "status": {"type": "string", "pattern": "^[2-5][0-9][0-9]$"},
            "response": ref("Error"),
        },
        "required": ["status"],
    }
    return {
        "type": "object",
        "properties": {
            "schemas": naming(messages.BULK_RESPONSE_SCHEMA),
            "Operations": {"type": "array", "items": operation},
        },
        "required": ["schemas", "Operations"],
    }


def _error() -> Shape:
    types = sorted({kind.scim_type for kind in errors.ScimError.__subclasses__() if kind.scim_type})
    return {
        "type": "object",
        "properties": {
            "schemas": naming(messages.ERROR_SCHEMA),
            "status": {"type": "string", "pattern": "^[45][0-9][0-9]$", "description": "The HTTP status."},
            "scimType": {"type": "string", "enum": types, "description": "What is wrong, by a name."},
            "detail": {"type": "string", "description": "What is wrong, in words."},
        },
        "required": ["schemas", "status", "detail"],
    }
