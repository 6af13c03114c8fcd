"""The endpoints of SCIM 2.0 (RFC 7644 §3.2); each handler reads, asks, and answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, cast

import fastapi
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import request_response

from usher_api import answers, representations, requests, writes
from usher_core import errors, ids, settings
from usher_core.changes import records, snapshots
from usher_core.scim import discoveries, documents, filters, messages, patches, projections, schemas
from usher_core.store import databases, predicates, resources
from usher_core.tenants import authentications

BASE_PATH = answers.BASE_PATH
DISCOVERY = frozenset({"ServiceProviderConfig", "ResourceTypes", "Schemas"})

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


class DirectRoute(fastapi.routing.APIRoute):
    """A route whose handler takes the request and returns the response.

    Nothing is injected or converted on the way: that costs as much as all the rest of a request.
    """

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = request_response(endpoint)


router = fastapi.APIRouter(route_class=DirectRoute)


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

    @property
    def resource_type(self) -> schemas.ResourceType:
        """What is served at the endpoint in the path; 404 when there is nothing."""
        endpoint = self.request.path_params["endpoint"]
        if endpoint in DISCOVERY:
            raise errors.MethodNotAllowed(f"{endpoint} can only be read.")  # RFC 7644 §4
        return self.services.registry.by_endpoint(endpoint)

    @property
    def resource_id(self) -> ids.ResourceId:
        """The id in the path; 404 when it can't be one of ours."""
        return requests.resource_id(self.request.path_params["resource_id"], self.resource_type.name)

    async def body(self) -> Any:
        """Read the body as JSON."""
        return await requests.body(self.request, self.services.settings.max_body_bytes)

    def presenter(self, resource_type: schemas.ResourceType) -> representations.Presenter:
        """Represent resources as this request asks for."""
        query = requests.query(self.request)
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
    headers = requests.headers(request)
    principal = await services.authenticator.authenticate(headers.get("authorization"), headers.get("host"))
    structlog.contextvars.bind_contextvars(tenant=str(principal.tenant))
    base_url = requests.base_url(request, principal, services.settings, BASE_PATH)
    return Call(request, services, principal, base_url)


# Discovery (RFC 7644 §4)


@router.get(BASE_PATH + "/ServiceProviderConfig")
async def service_provider_config(request: Request) -> Response:
    """Tell what this service can do."""
    call = await enter(request)
    config = discoveries.service_provider_config(
        call.base_url, max_results=call.services.settings.max_page_size
    )
    return answers.answer(request, 200, config)


@router.get(BASE_PATH + "/ResourceTypes")
async def resource_types(request: Request) -> Response:
    """List the kinds of resources."""
    call = await enter(request)
    return answers.answer(request, 200, discoveries.resource_types(call.services.registry, call.base_url))


@router.get(BASE_PATH + "/ResourceTypes/{name}")
async def resource_type(request: Request) -> Response:
    """Show one kind of resource."""
    call = await enter(request)
    described = call.services.registry.by_name(request.path_params["name"])
    return answers.answer(request, 200, discoveries.resource_type(described, call.base_url))


@router.get(BASE_PATH + "/Schemas")
async def all_schemas(request: Request) -> Response:
    """List the schemas."""
    call = await enter(request)
    return answers.answer(request, 200, discoveries.schemas(call.services.registry, call.base_url))


@router.get(BASE_PATH + "/Schemas/{urn}")
async def one_schema(request: Request) -> Response:
    """Show one schema."""
    call = await enter(request)
    described = call.services.registry.by_schema(request.path_params["urn"])
    return answers.answer(request, 200, discoveries.schema(described, call.base_url))


# Reading (RFC 7644 §3.4)


@router.get(BASE_PATH + "/{endpoint}")
async def query(request: Request) -> Response:
    """List the resources that a filter matches."""
    call = await enter(request)
    kind = call.resource_type
    presenter = call.presenter(kind)
    start, count = requests.page(request, call.services.settings)
    condition = _condition(call, kind)
    for unsupported in ("sortBy", "cursor"):
        if unsupported in requests.query(request):
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
    text = requests.query(call.request).get("filter")
    if text is None:
        return None
    return predicates.compile_filter(call.tenant, kind, filters.parse(text, kind))


@router.get(BASE_PATH + "/{endpoint}/{resource_id}")
async def retrieve(request: Request) -> Response:
    """Show one resource."""
    call = await enter(request)
    kind = call.resource_type
    presenter = call.presenter(kind)
    resource = await resources.find(
        call.services.database,
        call.tenant,
        kind,
        call.resource_id,
        presenter.relations,
    )
    if resource is None:
        raise errors.NotFound(f"There is no {kind.name} with the id {call.resource_id}.")
    headers = {"ETag": representations.etag(resource.stored.version)}
    # Computed groups are not part of the version: an answer that shows them is never 304.
    if not presenter.relations.groups and requests.none_match(request, resource.stored.version):
        return answers.answer(request, 304, headers=headers)
    return answers.answer(request, 200, presenter.represent(resource), headers)


# Writing (RFC 7644 §3.3, §3.5, §3.6)


@router.post(BASE_PATH + "/{endpoint}")
async def create(request: Request) -> Response:
    """Create a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type
    presenter = call.presenter(kind)
    body = documents.normalise(kind, await call.body())
    target = ids.ResourceId(ids.new_uuid())
    outcome = await call.submit("create", kind, target, body)
    return await _show(call, presenter, target, outcome, 201)


@router.put(BASE_PATH + "/{endpoint}/{resource_id}")
async def replace(request: Request) -> Response:
    """Replace a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type
    presenter = call.presenter(kind)
    target = call.resource_id
    body = documents.normalise(kind, await call.body())
    outcome = await call.submit("replace", kind, target, body)
    return await _show(call, presenter, target, outcome, 200)


@router.patch(BASE_PATH + "/{endpoint}/{resource_id}")
async def patch(request: Request) -> Response:
    """Change parts of a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type
    presenter = call.presenter(kind)
    target = call.resource_id
    operations = patches.parse(await call.body(), kind)
    outcome = await call.submit("patch", kind, target, patches.dump(operations))
    query = requests.query(request)
    if kind.stored_apart and not ("attributes" in query or "excludedAttributes" in query):
        # Entra expects 204 for a group (RFC 7644 §3.5.2 allows it); the whole group may be large.
        return answers.answer(request, 204, headers={"ETag": representations.etag(outcome.version or 0)})
    return await _show(call, presenter, target, outcome, 200)


@router.delete(BASE_PATH + "/{endpoint}/{resource_id}")
async def delete(request: Request) -> Response:
    """Delete a resource."""
    call = await _enter_to_write(request)
    kind = call.resource_type
    await call.submit("delete", kind, call.resource_id, None)
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
