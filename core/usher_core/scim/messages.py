"""Messages of the protocol (RFC 7644 §3.4.2, §3.12) and their URNs, as plain JSON objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

LIST_RESPONSE_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
SEARCH_REQUEST_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:SearchRequest"
PATCH_OP_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
BULK_REQUEST_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
BULK_RESPONSE_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:BulkResponse"
ERROR_SCHEMA: Final = "urn:ietf:params:scim:api:messages:2.0:Error"


def list_response(
    resources: Sequence[dict[str, Any]],
    total_results: int,
    start_index: int = 1,
    items_per_page: int | None = None,
) -> dict[str, Any]:
    """Make the answer to a query; `items_per_page` is the number of resources unless it is given.

    `Resources` is there even when it is empty: identity providers read its absence as a fault.
    """
    return {
        "schemas": [LIST_RESPONSE_SCHEMA],
        "totalResults": total_results,
        "startIndex": start_index,
        "itemsPerPage": len(resources) if items_per_page is None else items_per_page,
        "Resources": list(resources),
    }


def cursor_response(
    resources: Sequence[dict[str, Any]],
    total_results: int,
    next_cursor: str | None,
    previous_cursor: str | None,
) -> dict[str, Any]:
    """Make the answer to a query by cursor (RFC 9865 §2); `None` where there is no such page."""
    body: dict[str, Any] = {
        "schemas": [LIST_RESPONSE_SCHEMA],
        "totalResults": total_results,
        "itemsPerPage": len(resources),
    }
    if next_cursor is not None:
        body["nextCursor"] = next_cursor
    if previous_cursor is not None:
        body["previousCursor"] = previous_cursor
    return body | {"Resources": list(resources)}


def bulk_response(operations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Make the answer to a bulk request, of what became of each operation (RFC 7644 §3.7.3)."""
    return {"schemas": [BULK_RESPONSE_SCHEMA], "Operations": list(operations)}


def error(status: int, scim_type: str | None = None, detail: str | None = None) -> dict[str, Any]:
    """Make the body of an error; the status is a string in it (RFC 7644 §3.12)."""
    body: dict[str, Any] = {"schemas": [ERROR_SCHEMA], "status": str(status)}
    if scim_type is not None:
        body["scimType"] = scim_type
    if detail is not None:
        body["detail"] = detail
    return body
