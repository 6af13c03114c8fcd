"""Reading requests: who asks, for what, under which conditions; every mistake becomes a SCIM error."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.types import Scope

from usher_api import proxies
from usher_core import errors, ids, settings
from usher_core.changes import snapshots
from usher_core.tenants import authentications

ENTITY_TAG = re.compile(r'(?:W/)?"(\d{1,18})"')
NO_QUERY: Mapping[str, str] = {}
# Two bytes are a list, which takes a hundred nanoseconds to make and as long to look at.
MAX_NESTED = 60_000
MAX_VALUES = 100_000
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
        UnsupportedMediaType: declared as something else than JSON.
        PayloadTooLarge: more bytes than the limit.
        InvalidSyntax: no JSON.
    """
    declared = headers(request).get("content-type", "").partition(";")[0].strip().lower()
    if declared not in JSON_TYPES:
        raise errors.UnsupportedMediaType(
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
    request.scope["usher.body"] = bytes(data)
    return read_json(data)


def target(request: Request) -> bytes:
    """Return the path and the query as they were sent."""
    raw: bytes = request.scope.get("raw_path") or request.scope["path"].encode()
    query: bytes = request.scope["query_string"]
    return raw + b"?" + query


def is_gone(request: Request) -> Callable[[], bool] | None:
    """Return what tells whether the client has hung up; `None` where the server can't tell."""
    told: Callable[[], bool] | None = request.scope.get("usher.is_gone")
    return told


def prefers_async(request: Request) -> bool:
    """Tell whether the client wants a 202 (Prefer: respond-async, RFC 7240 §4.1)."""
    preferences = headers(request).get("prefer")
    if preferences is None:
        return False
    return any(one.split(";")[0].strip().lower() == "respond-async" for one in preferences.split(","))


def read_json(data: bytes | bytearray) -> Any:
    """Read the bytes of a body.

    Raises:
        InvalidSyntax: no JSON, or more than `MAX_NESTED` lists and objects or `MAX_VALUES` values.
    """
    # What stands within strings counts too, for the sake of a look that takes no time.
    if data.count(b"[") + data.count(b"{") > MAX_NESTED:
        raise errors.InvalidSyntax(f"The body holds more than {MAX_NESTED} lists and objects.")
    if data.count(b",") >= MAX_VALUES:
        raise errors.InvalidSyntax(f"The body holds more than {MAX_VALUES} values.")
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
    return versions(headers(request).get("if-match"))


def versions(text: str | None) -> tuple[int, ...] | None:
    """Read the value of If-Match, or the `version` of an operation of a bulk."""
    if text is None or text.strip() == "*":
        return None
    return tuple(int(version) for version in ENTITY_TAG.findall(text))


def none_match(request: Request, version: int) -> bool:
    """Tell whether the client already has this version (If-None-Match)."""
    header = headers(request).get("if-none-match")
    if header is None:
        return False
    return header.strip() == "*" or str(version) in ENTITY_TAG.findall(header)


def base_url(
    origin: proxies.Origin, principal: authentications.Principal, config: settings.Settings, path: str
) -> str:
    """Make the URL under which the tenant's endpoints lie, without a slash at the end."""
    if principal.host:
        return f"https://{principal.host}{path}"
    if config.public_url:
        return f"{config.public_url.rstrip('/')}{path}"
    return f"{origin.scheme}://{origin.host or 'localhost'}{path}"
