"""Responses of the protocol: bodies, media types and headers, for results and for errors."""

from __future__ import annotations

import re
from typing import Any

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Scope

from usher_api import refusals, requests
from usher_core import errors
from usher_core.queues import appends
from usher_core.scim import messages, references

SCIM = "application/scim+json"
JSON = "application/json"

BASE_PATH = "/iam/scim/v2"

NOBODY_IS_ME = "/Me: a token of this service names an identity provider, never a user."

CHALLENGE = 'Bearer realm="usher"'

QUALITY = re.compile(r"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)")


def media_type(accept: str | None) -> str:
    """Choose the answer's media type: SCIM's, unless the client likes plain JSON better (RFC 7644 §3.8).

    One that accepts neither gets SCIM's all the same: RFC 9110 §12.5.1 leaves it to us, and an answer that
    a client did not ask for helps it more than a 406.
    """
    if accept is None or accept == SCIM:
        return SCIM
    qualities = dict(_media_range(one) for one in accept.split(","))
    # The most specific range counts (RFC 9110 §12.5.1).
    others = qualities.get("application/*", qualities.get("*/*", 0.0))
    return JSON if qualities.get(JSON, others) > qualities.get(SCIM, others) else SCIM


def _media_range(text: str) -> tuple[str, float]:
    """Read one range of Accept and its quality; one that is no number counts as 1."""
    name, *parameters = text.lower().split(";")
    found = (QUALITY.fullmatch(one.strip()) for one in parameters)
    return name.strip(), next((float(one[1]) for one in found if one), 1.0)


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
        case appends.RateExceeded():
            return refusals.too_often("reads", exc.seconds, "readsPerSecond")
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
    if isinstance(exc, errors.UnsupportedMediaType):
        headers["Accept"] = f"{SCIM}, {JSON}"  # RFC 9110 §15.5.16
    if isinstance(exc, errors.Unavailable | errors.TooManyRequests):
        headers["Retry-After"] = str(exc.retry_after)
    return Response(
        error_body(exc.status, exc.scim_type, exc.detail),
        status_code=exc.status,
        headers=headers,
        media_type=media_type(accept),
    )
