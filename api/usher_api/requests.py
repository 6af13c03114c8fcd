"""Reading requests: who asks, for what, under which conditions; every mistake becomes a SCIM error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Scope

from usher_core import errors, ids, settings
from usher_core.changes import snapshots
from usher_core.tenants import authentications

ENTITY_TAG = re.compile(r'(?:W/)?"(\d{1,18})"')
NO_QUERY: Mapping[str, str] = {}
JSON_TYPES = frozenset({"", "application/json", "application/scim+json"})


def read_headers(scope: Scope) -> dict[str, str]:
    """Read the headers once, into a dictionary; of repeated ones the first counts."""
    headers: dict[str, str] = {}
    for name, value in scope["headers"]:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return headers


def headers(request: Request) -> dict[str, str]:
    """Return the headers, by lower-case name, as `middlewares.Envelope` read them."""
    found: dict[str, str] = request.scope["usher.headers"]
    return found


def query(request: Request) -> Mapping[str, str]:
    """Return the parameters of the query."""
    return request.query_params if request.scope["query_string"] else NO_QUERY


async def body(request: Request, limit: int) -> Any:
    """Read the body as JSON; `limit` in bytes.

    Raises:
        PayloadTooLarge: more bytes than the limit.
        InvalidSyntax: no JSON, or of a media type that is not JSON's.
    """
    declared = headers(request).get("content-type", "").partition(";")[0].strip().lower()
    if declared not in JSON_TYPES:
        raise errors.InvalidSyntax(
            f"Content-Type: {declared[:80]} is not supported; use application/scim+json."
        )
    length = headers(request).get("content-length", "")
    if length.isdigit() and int(length) > limit:
        raise errors.PayloadTooLarge(f"The body may have at most {limit} bytes.")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > limit:
            raise errors.PayloadTooLarge(f"The body may have at most {limit} bytes.")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as exc:
        raise errors.InvalidSyntax(f"The body is no valid JSON: {exc.msg} at character {exc.pos}.") from None


def resource_id(text: str, type_name: str) -> ids.ResourceId:
    """Read the id in a path.

    Raises:
        NotFound: no resource of ours has such an id.
    """
    found = snapshots.resource_id(text)
    if found is None or str(found) != text.lower():
        raise errors.NotFound(f"There is no {type_name} with the id {text[:80]}.")
    return found


def if_match(request: Request) -> tuple[int, ...] | None:
    """Read If-Match: the versions that the client accepts, `None` for any (RFC 7644 §3.14)."""
    header = headers(request).get("if-match")
    if header is None or header.strip() == "*":
        return None
    return tuple(int(version) for version in ENTITY_TAG.findall(header))


def none_match(request: Request, version: int) -> bool:
    """Tell whether the client already has this version (If-None-Match)."""
    header = headers(request).get("if-none-match")
    if header is None:
        return False
    return header.strip() == "*" or str(version) in ENTITY_TAG.findall(header)


def base_url(
    request: Request, principal: authentications.Principal, config: settings.Settings, path: str
) -> str:
    """Make the URL under which the tenant's endpoints lie, without a slash at the end."""
    if principal.host:
        return f"https://{principal.host}{path}"
    if config.public_url:
        return f"{config.public_url.rstrip('/')}{path}"
    return f"{request.scope['scheme']}://{headers(request).get('host', 'localhost')}{path}"
