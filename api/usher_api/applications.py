"""The application of an api process: its services, its routes, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import fastapi
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from usher_api import answers, metrics, middlewares, routes, writes
from usher_core import __version__, errors, logs, settings
from usher_core.scim import schemas
from usher_core.store import databases, revisions
from usher_core.tenants import authentications

log = structlog.get_logger(__name__)

# What can't be of a lower version than this process needs is looked at until it is; then never again.
SCHEMA_RETRY = 0.5


def create() -> middlewares.Envelope:
    """Make the application from the environment; the factory that uvicorn calls in each process."""
    config = settings.load()
    logs.configure(config.log_level, process="api")
    return build(config)


def build(config: settings.Settings) -> middlewares.Envelope:
    """Make the application."""

    @contextlib.asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        database = databases.Database(
            config.database_url,
            application="usher-api",
            pool_size=config.database_pool_size,
            statement_timeout=config.statement_timeout,
        )
        await database.open()
        authenticator = authentications.Authenticator(database)
        writer = writes.Writes(config, database)
        writer.start()
        app.state.services = routes.Services(config, database, authenticator, writer, schemas.default())
        app.state.schema_seen = asyncio.create_task(_see_schema(database), name="schema")
        try:
            yield
        finally:
            app.state.schema_seen.cancel()
            await writer.close()
            await authenticator.close()
            await database.close()

    app = fastapi.FastAPI(
        title="Usher",
        version=__version__,
        summary="SCIM 2.0: users and groups, pushed by identity providers.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    # Not include_router: it would wrap each route in layers that nothing here needs.
    app.router.routes.extend(routes.router.routes)
    app.add_api_route("/healthz", _healthz, include_in_schema=False)
    app.add_api_route("/readyz", _readyz, include_in_schema=False)
    app.add_api_route("/metrics", _metrics, include_in_schema=False)
    app.add_exception_handler(errors.ScimError, _scim_error)
    app.add_exception_handler(errors.StoreUnavailable, _store_away)
    app.add_exception_handler(HTTPException, _http_error)
    return middlewares.Envelope(app)


async def _see_schema(database: databases.Database) -> None:
    """Wait until the schema is at least what this version needs."""
    while True:
        try:
            if await revisions.is_sufficient(database):
                return
            log.warning("schema.too_old")
        except errors.StoreUnavailable as exc:
            log.warning("schema.unknown", error=str(exc))
        await asyncio.sleep(SCHEMA_RETRY)


async def _healthz() -> Response:
    return JSONResponse({"status": "ok"})


async def _readyz(request: Request) -> Response:
    """Ready for good once the schema was seen: a passing loss of a backend takes no pod out of service."""
    if request.app.state.schema_seen.done():
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "waiting for the schema of PostgreSQL"}, status_code=503)


async def _metrics() -> Response:
    return PlainTextResponse(metrics.expose(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _scim_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, errors.ScimError)  # noqa: S101 - registered for it
    return answers.error(exc, request.headers.get("accept"))


async def _store_away(request: Request, exc: Exception) -> Response:
    log.warning("store.unavailable", error=str(exc))
    away = errors.Unavailable("The store can't answer now. Try again.", retry_after=2)
    return answers.error(away, request.headers.get("accept"))


async def _http_error(request: Request, exc: Exception) -> Response:
    """Answer unknown routes and wrong methods as SCIM errors."""
    assert isinstance(exc, HTTPException)  # noqa: S101 - registered for it
    known: errors.ScimError
    if exc.status_code == 405:
        known = errors.MethodNotAllowed(f"{request.method} is not allowed on {request.url.path}.")
    else:
        known = errors.NotFound(f"There is nothing at {request.url.path}; SCIM 2.0 is at {routes.BASE_PATH}.")
    response = answers.error(known, request.headers.get("accept"))
    for name, value in (exc.headers or {}).items():
        response.headers[name] = value
    return response
