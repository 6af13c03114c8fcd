"""A request on its way through a handler: who asks, what of, and the services that help to answer.

`routes` enters each request here. Invariant: what comes out of `enter` and `enter_to_write` may be served.
"""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import structlog
from starlette.requests import Request

from usher_api import acceptances, answers, proxies, reads, representations, requests, retries, writes
from usher_core import errors, ids, settings
from usher_core.changes import records
from usher_core.queues import allowances
from usher_core.scim import projections, schemas
from usher_core.store import cursors, databases
from usher_core.tenants import authentications, configs


@dataclasses.dataclass(frozen=True, slots=True)
class Services:
    """What the handlers of one process share."""

    settings: settings.Settings
    database: databases.Database
    authenticator: authentications.Authenticator
    writes: writes.Writes
    allowances: allowances.Allowances
    cursor_keys: cursors.Keys = dataclasses.field(default_factory=cursors.Keys)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One authenticated request to one tenant."""

    request: Request
    services: Services
    principal: authentications.Principal
    base_url: str

    @property
    def tenant(self) -> ids.TenantId:
        """The tenant that the token belongs to."""
        return self.principal.tenant

    @property
    def registry(self) -> schemas.Registry:
        """The schemas and resource types that the tenant has."""
        return self.principal.registry

    @property
    def config(self) -> configs.TenantConfig:
        """What the tenant lets its identity provider do."""
        return self.principal.config

    @property
    def resource_type(self) -> schemas.ResourceType:
        """What is served at the endpoint in the path; 404 when there is nothing."""
        return self.registry.by_endpoint(self.request.path_params["endpoint"])

    @property
    def resource_id(self) -> ids.ResourceId:
        """The id in the path; 404 when it can't be one of ours."""
        return requests.resource_id(self.request.path_params["resource_id"], self.resource_type.name)

    @property
    def reads(self) -> reads.Reads:
        """What answers the searches of this tenant."""
        services = self.services
        return reads.Reads(
            services.settings,
            services.database,
            self.registry,
            services.cursor_keys,
            self.tenant,
            self.base_url,
        )

    async def body(self) -> Any:
        """Read the body as JSON."""
        return await requests.body(self.request, self.services.settings.max_body_bytes)

    def presenter(self, resource_type: schemas.ResourceType) -> representations.Presenter:
        """Represent resources as this request asks for."""
        query = requests.query(self.request)
        projection = projections.parse(
            query.get("attributes"), query.get("excludedAttributes"), resource_type
        )
        return representations.Presenter(self.registry, resource_type, self.base_url, projection)

    async def submit(
        self,
        operation: records.Operation,
        resource_type: schemas.ResourceType,
        resource_id: ids.ResourceId,
        body: Any,
    ) -> records.Outcome:
        """Send one change through the queue and wait for its outcome.

        Raises:
            AnsweredLater: the client is answered 202.
        """
        outcome = await self.services.writes.submit(
            self.principal,
            operation,
            resource_type.name,
            resource_id,
            body,
            if_match=requests.if_match(self.request),
            asking=await self.asking(),
        )
        if isinstance(outcome, records.Outcome):
            return outcome
        raise acceptances.AnsweredLater(outcome, f"{self.base_url}/{resource_type.endpoint}/{resource_id}")

    async def asking(self) -> writes.Asking:
        """Tell how this request asks for its change; call it when the body was read."""
        request, services = self.request, self.services
        retry_key = ""
        if request.method in retries.METHODS:
            retry_key = retries.key(
                await services.cursor_keys.of(services.database, self.tenant),
                self.tenant,
                self.principal.token_id,
                request.method,
                requests.target(request),
                requests.headers(request),
                request.scope.get("usher.body", b""),
            )
        later = requests.prefers_async(request)
        return writes.Asking(request.scope["request_id"], retry_key, later, requests.is_gone(request))


async def enter(request: Request) -> Call:
    """Authenticate a request that reads, and see that its tenant does not read too often."""
    call = await _enter(request)
    if call.principal.suspension is not None:
        raise errors.Forbidden(call.principal.suspension)
    await call.services.allowances.spend(call.tenant, call.config.reads_per_second)
    return call


async def _enter(request: Request) -> Call:
    """Authenticate a request."""
    services = cast("Services", request.app.state.services)
    headers = requests.headers(request)
    origin = proxies.origin(request.scope, headers, services.settings.trusted_proxies)
    principal = await services.authenticator.authenticate(headers.get("authorization"), origin.host)
    structlog.contextvars.bind_contextvars(tenant=principal.tenant)
    base_url = requests.base_url(origin, principal, services.settings, answers.BASE_PATH)
    return Call(request, services, principal, base_url)


async def enter_to_write(request: Request) -> Call:
    """Authenticate a request that writes, with a token that may."""
    call = await _enter(request)
    if call.principal.suspension is not None and call.config.suspend_revocations:
        raise errors.Forbidden(call.principal.suspension)
    call.principal.require_writer()
    return call
