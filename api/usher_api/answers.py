"""Responses of the protocol: bodies, media types and headers, for results and for errors."""

from __future__ import annotations

from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from usher_api import requests
from usher_core import errors
from usher_core.scim import messages, references

SCIM = "application/scim+json"
JSON = "application/json"

BASE_PATH = "/iam/scim/v2"

CHALLENGE = 'Bearer realm="usher"'


def media_type(accept: str | None) -> str:
    """Choose the answer's media type: SCIM's, unless the client accepts only plain JSON (RFC 7644 §3.1)."""
    if accept is None or SCIM in accept or "*" in accept or JSON not in accept:
        return SCIM
    return JSON


def answer(
    request: Request, status: int, body: Any = None, headers: dict[str, str] | None = None
) -> Response:
    """Answer with a JSON body, or with none."""
    if body is None:
        return Response(status_code=status, headers=headers)
    return Response(
        orjson.dumps(body),
        status_code=status,
        headers=headers,
        media_type=media_type(requests.headers(request).get("accept")),
    )


def error_body(status: int, scim_type: str | None, detail: str) -> bytes:
    """Write a SCIM error (RFC 7644 §3.12)."""
    return orjson.dumps(messages.error(status, scim_type, detail))


def as_scim_error(exc: Exception, scope: Scope) -> errors.ScimError | None:
    """Say an error of the application in the protocol's terms; `None` for a fault of ours."""
    shown = references.shown(scope["path"])
    match exc:
        case errors.ScimError():
            return exc
        case errors.StoreUnavailable():
            return errors.Unavailable("The store can't answer now. Try again.", retry_after=2)
        case HTTPException(status_code=405):
            return errors.MethodNotAllowed(
                f"{scope['method']} is not allowed on {shown}.", allowed=_allowed(scope)
            )
        case HTTPException():
            return errors.NotFound(f"There is nothing at {shown}; SCIM 2.0 is at {BASE_PATH}.")
        case ClientDisconnect():
            return errors.InvalidSyntax("The client went away before its request was whole.")
        case _:
            return None


def _allowed(scope: Scope) -> str:
    """List the methods of every route that the path leads to."""
    methods: set[str] = set()
    for route in scope["router"].routes:
        match, _ = route.matches(scope)
        if match is not Match.NONE:
            methods |= getattr(route, "methods", None) or set()
    return ", ".join(sorted(methods))


def error(exc: errors.ScimError, accept: str | None = None) -> Response:
    """Answer with a SCIM error and the headers that belong to its status."""
    headers = {}
    if isinstance(exc, errors.Unauthenticated):
        headers["WWW-Authenticate"] = CHALLENGE  # RFC 6750 §3
    if isinstance(exc, errors.MethodNotAllowed):
        headers["Allow"] = exc.allowed  # RFC 9110 §15.5.6
    if isinstance(exc, errors.Unavailable):
        headers["Retry-After"] = str(exc.retry_after)
    return Response(
        error_body(exc.status, exc.scim_type, exc.detail),
        status_code=exc.status,
        headers=headers,
        media_type=media_type(accept),
    )
