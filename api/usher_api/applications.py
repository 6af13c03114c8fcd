"""The application of an api process: its services, its routes, and its errors."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from typing import Any

import fastapi
import structlog
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp

from usher_api import calls, middlewares, routes, specifications, writes
from usher_core import errors, logs, metrics, settings
from usher_core.queues import allowances
from usher_core.scim import schemas
from usher_core.store import databases, revisions
from usher_core.tenants import authentications

log = structlog.get_logger(__name__)

# What can't be of a lower version than this process needs is looked at until it is; then never again.
SCHEMA_RETRY = 0.5


class Application(fastapi.FastAPI):
    """FastAPI with nothing between `middlewares.Envelope` and the router.

    What its own layers do (errors as JSON, body limits, exit stacks for dependencies) is done in one place
    outside, or not needed; they cost a tenth of a request.
    """

    def build_middleware_stack(self) -> ASGIApp:
        """Leave the layers out."""
        return self.router

    def openapi(self) -> dict[str, Any]:
        """Make the document once, from our own descriptions: the handlers' signatures tell nothing."""
        if self.openapi_schema is None:
            self.openapi_schema = specifications.document(self.routes, schemas.default())
        return self.openapi_schema


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
        # What was imported lives for good: the garbage collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        app.state.services = calls.Services(
            config, database, authenticator, writer, allowances.Allowances(writer.client)
        )
        app.state.schema_seen = asyncio.create_task(_see_schema(database), name="schema")
        try:
            yield
        finally:
            app.state.schema_seen.cancel()
            await writer.close()
            await authenticator.close()
            await database.close()

    # FastAPI's own telemetry would tell paths and exceptions, with personal values, to whoever is configured,
    # and asks at each request who is. Usher's logs and metrics are without.
    app = Application(
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    # Not include_router: it would wrap each route in layers that nothing here needs.
    app.router.routes.extend(routes.router.routes)
    app.add_route("/healthz", _healthz)
    app.add_route("/readyz", _readyz)
    app.add_route("/metrics", _metrics)
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


async def _healthz(_: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _readyz(request: Request) -> Response:
    """Ready for good once the schema was seen: a passing loss of a backend takes no pod out of service."""
    if request.app.state.schema_seen.done():
        return JSONResponse({"status": "ready"})
    return JSONResponse({"status": "waiting for the schema of PostgreSQL"}, status_code=503)


async def _metrics(_: Request) -> Response:
    return PlainTextResponse(metrics.expose(), media_type="text/plain; version=0.0.4; charset=utf-8")
