"""The endpoints of SCIM 2.0 (RFC 7644 §3.2); each handler reads, asks, and answers."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import fastapi
import structlog
from starlette.requests import Request
from starlette.responses import Response

from usher_api import answers, representations, requests, writes
from usher_core import errors, ids, settings
from usher_core.changes import records, snapshots
from usher_core.scim import discoveries, documents, filters, messages, patches, projections, schemas
from usher_core.store import databases, predicates, resources
from usher_core.tenants import authentications

BASE_PATH = "/iam/scim/v2"

router = fastapi.APIRouter(prefix=BASE_PATH)


@dataclasses.dataclass(frozen=True, slots=True)
class Services:
    """What the handlers of one process share."""

    settings: settings.Settings
    database: databases.Database
    authenticator: authentications.Authenticator
    writes: writes.Writes
    registry: schemas.Registry


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

    def resource_type(self, endpoint: str) -> schemas.ResourceType:
        """Find what is served at the endpoint, or answer 404."""
        return self.services.registry.by_endpoint(endpoint)

    def presenter(self, resource_type: schemas.ResourceType) -> representations.Presenter:
        """Represent resources as this request asks for."""
        query = self.request.query_params
        projection = projections.parse(
            query.get("attributes"), query.get("excludedAttributes"), resource_type
        )
        return representations.Presenter(self.services.registry, resource_type, self.base_url, projection)

    async def submit(
        self,
        operation: records.Operation,
        resource_type: schemas.ResourceType,
        resource_id: ids.ResourceId,
        body: Any,
    ) -> records.Outcome:
        """Send one change through the queue and wait for its outcome."""
        return await self.services.writes.submit(
            self.principal,
            operation,
            resource_type.name,
            resource_id,
            body,
            if_match=requests.if_match(self.request),
            request_id=self.request.scope["request_id"],
        )


async def enter(request: Request) -> Call:
    """Authenticate a request."""
    services = cast("Services", request.app.state.services)
    headers = request.headers
    principal = await services.authenticator.authenticate(headers.get("authorization"), headers.get("host"))
    structlog.contextvars.bind_contextvars(tenant=str(principal.tenant))
    base_url = requests.base_url(request, principal, services.settings, BASE_PATH)
    return Call(request, services, principal, base_url)


# Discovery (RFC 7644 §4)


@router.get("/ServiceProviderConfig")
async def service_provider_config(request: Request) -> Response:
    """Tell what this service can do."""
    call = await enter(request)
    config = discoveries.service_provider_config(
        call.base_url, max_results=call.services.settings.max_page_size
    )
    return answers.answer(request, 200, config)


@router.get("/ResourceTypes")
async def resource_types(request: Request) -> Response:
    """List the kinds of resources."""
    call = await enter(request)
    return answers.answer(request, 200, discoveries.resource_types(call.services.registry, call.base_url))


@router.get("/ResourceTypes/{name}")
async def resource_type(request: Request, name: str) -> Response:
    """Show one kind of resource."""
    call = await enter(request)
    described = call.services.registry.by_name(name)
    return answers.answer(request, 200, discoveries.resource_type(described, call.base_url))


@router.get("/Schemas")
async def all_schemas(request: Request) -> Response:
    """List the schemas."""
    call = await enter(request)
    return answers.answer(request, 200, discoveries.schemas(call.services.registry, call.base_url))


@router.get("/Schemas/{urn}")
async def one_schema(request: Request, urn: str) -> Response:
    """Show one schema."""
    call = await enter(request)
    described = call.services.registry.by_schema(urn)
    return answers.answer(request, 200, discoveries.schema(described, call.base_url))


# Reading (RFC 7644 §3.4)


@router.get("/{endpoint}")
async def query(request: Request, endpoint: str) -> Response:
    """List the resources that a filter matches."""
    call = await enter(request)
    kind = call.resource_type(endpoint)
    presenter = call.presenter(kind)
    start, count = requests.page(request, call.services.settings)
    condition = _condition(call, kind)
    for unsupported in ("sortBy", "cursor"):
        if unsupported in request.query_params:
            raise errors.InvalidValue(f"{unsupported}: not supported by this version.")
    page = await resources.page(
        call.services.database,
        call.tenant,
        kind,
        condition,
        presenter.relations,
        offset=start - 1,
        limit=count,
    )
    shown = [presenter.represent(resource) for resource in page.resources]
    return answers.answer(request, 200, messages.list_response(shown, page.total, start))


def _condition(call: Call, kind: schemas.ResourceType) -> predicates.Predicate | None:
    text = call.request.query_params.get("filter")
    if text is None:
        return None
    return predicates.compile_filter(call.tenant, kind, filters.parse(text, kind))


@router.get("/{endpoint}/{resource_id}")
async def retrieve(request: Request, endpoint: str, resource_id: str) -> Response:
    """Show one resource."""
    call = await enter(request)
    kind = call.resource_type(endpoint)
    presenter = call.presenter(kind)
    resource = await resources.find(
        call.services.database,
        call.tenant,
        kind,
        requests.resource_id(resource_id, kind.name),
        presenter.relations,
    )
    if resource is None:
        raise errors.NotFound(f"There is no {kind.name} with the id {resource_id[:80]}.")
    headers = {"ETag": representations.etag(resource.stored.version)}
    # Computed groups are not part of the version: an answer that shows them is never 304.
    if not presenter.relations.groups and requests.none_match(request, resource.stored.version):
        return answers.answer(request, 304, headers=headers)
    return answers.answer(request, 200, presenter.represent(resource), headers)


# Writing (RFC 7644 §3.3, §3.5, §3.6)


@router.post("/{endpoint}")
async def create(request: Request, endpoint: str) -> Response:
    """Create a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type(endpoint)
    presenter = call.presenter(kind)
    body = documents.normalise(kind, await requests.body(request, call.services.settings.max_body_bytes))
    target = ids.ResourceId(ids.new_uuid())
    outcome = await call.submit("create", kind, target, body)
    return await _show(call, presenter, target, outcome, 201)


@router.put("/{endpoint}/{resource_id}")
async def replace(request: Request, endpoint: str, resource_id: str) -> Response:
    """Replace a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type(endpoint)
    presenter = call.presenter(kind)
    target = requests.resource_id(resource_id, kind.name)
    body = documents.normalise(kind, await requests.body(request, call.services.settings.max_body_bytes))
    outcome = await call.submit("replace", kind, target, body)
    return await _show(call, presenter, target, outcome, 200)


@router.patch("/{endpoint}/{resource_id}")
async def patch(request: Request, endpoint: str, resource_id: str) -> Response:
    """Change parts of a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type(endpoint)
    presenter = call.presenter(kind)
    target = requests.resource_id(resource_id, kind.name)
    operations = patches.parse(await requests.body(request, call.services.settings.max_body_bytes), kind)
    outcome = await call.submit("patch", kind, target, patches.dump(operations))
    query = request.query_params
    if kind.stored_apart and not ("attributes" in query or "excludedAttributes" in query):
        # Entra expects 204 for a group (RFC 7644 §3.5.2 allows it); the whole group may be large.
        return answers.answer(request, 204, headers={"ETag": representations.etag(outcome.version or 0)})
    return await _show(call, presenter, target, outcome, 200)


@router.delete("/{endpoint}/{resource_id}")
async def delete(request: Request, endpoint: str, resource_id: str) -> Response:
    """Delete a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type(endpoint)
    await call.submit("delete", kind, requests.resource_id(resource_id, kind.name), None)
    return answers.answer(request, 204)


async def _enter_to_write(request: Request) -> Call:
    call = await enter(request)
    call.principal.require_writer()
    return call


async def _show(
    call: Call,
    presenter: representations.Presenter,
    resource_id: ids.ResourceId,
    outcome: records.Outcome,
    status: int,
) -> Response:
    """Answer with the resource as the change left it, and its relations as they are now."""
    kind = presenter.resource_type
    is_new = status == 201
    if outcome.document is None or outcome.created_at is None or outcome.modified_at is None:
        raise errors.NotFound(f"The {kind.name} was changed, and has been deleted since.")
    stored = snapshots.Stored(
        kind.name,
        resource_id,
        outcome.version or 1,
        outcome.document,
        outcome.created_at,
        outcome.modified_at,
    )
    resource = resources.Resource(stored, None, None)
    relations = presenter.relations
    if relations.members or (relations.groups and not is_new):
        found = await resources.find(call.services.database, call.tenant, kind, resource_id, relations)
        if found is not None:
            resource = dataclasses.replace(resource, groups=found.groups, members=found.members)
    headers = {"ETag": representations.etag(stored.version)}
    if is_new:
        headers["Location"] = presenter.location(stored)
    return answers.answer(call.request, status, presenter.represent(resource), headers)
