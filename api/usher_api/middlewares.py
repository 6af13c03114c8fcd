"""The outermost layer: request ids, log lines, metrics, forgiving paths, and SCIM errors for everything.

Plain ASGI, and the only layer around the router: a request passes here without a task or a stream of its
own, and every error of the application becomes its answer in one place.
"""

from __future__ import annotations

import re
import secrets
import time

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from usher_api import answers, metrics, requests
from usher_core import errors

log = structlog.get_logger(__name__)

SLASHES = re.compile(r"/{2,}")
REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
SCIM_1 = re.compile(r"^(/iam)?/(scim/)?v1(/|$)")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Envelope:
    """Wraps the application; whatever is wrong inside, the client gets a SCIM error."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass the lifespan on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        scope["path"] = forgiving_path(scope["path"])
        headers = scope["usher.headers"] = requests.read_headers(scope)
        request_id = scope["request_id"] = _request_id(headers)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-request-id", request_id.encode()))
            await send(message)

        try:
            _require_scim_2(scope["path"])
            await self._app(scope, receive, sending)
        except Exception as exc:
            failure = answers.as_scim_error(exc, scope)
            if isinstance(exc, errors.StoreUnavailable):
                log.warning("store.unavailable", error=str(exc))
            if failure is None:
                log.exception("request.failed")
                failure = errors.ChangeFailed("The request failed for a fault of the service; it was logged.")
            if status:
                raise  # too late to answer anything else: the connection ends
            await answers.error(failure, headers.get("accept"))(scope, receive, sending)
        finally:
            _account(scope, status, time.perf_counter() - started)


def forgiving_path(path: str) -> str:
    """Read a path as its writer meant it: doubled slashes and one at the end change nothing.

    Keycloak's plugins send `v2//Users`, others `/Users/`.
    """
    if "//" in path:
        path = SLASHES.sub("/", path)
    return path.rstrip("/") or "/"


def _require_scim_2(path: str) -> None:
    if SCIM_1.match(path):
        raise errors.InvalidVersion(
            "SCIM 1.x is not supported: this service speaks SCIM 2.0 under /iam/scim/v2."
        )


def _account(scope: Scope, status: int, seconds: float) -> None:
    method = scope["method"] if scope["method"] in METHODS else "OTHER"
    endpoint = getattr(scope.get("route"), "path", "other")
    metrics.count_request(method, endpoint, status, seconds)
    log.info(
        "request",
        method=method,
        path=scope["path"],
        status=status,
        milliseconds=round(seconds * 1000, 2),
    )


def _request_id(headers: dict[str, str]) -> str:
    given = headers.get("x-request-id")
    return given if given is not None and REQUEST_ID.fullmatch(given) else secrets.token_hex(16)
