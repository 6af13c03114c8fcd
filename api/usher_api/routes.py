"""The endpoints of SCIM 2.0 (RFC 7644 §3.2); each handler reads, asks, and answers."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

import fastapi
from starlette.requests import Request
from starlette.responses import Response

from usher_api import (
    acceptances,
    answers,
    bulks,
    calls,
    policies,
    representations,
    requests,
)
from usher_core import errors, ids
from usher_core.changes import records, snapshots
from usher_core.scim import discoveries, patches, schemas, searches
from usher_core.store import cursors, resources

BASE_PATH = answers.BASE_PATH
# RFC 7644 §3.2: endpoints of no resource type, so that a path to one of them leads nowhere else.
FIXED = ("Bulk", "Me", "ResourceTypes", "Schemas", "ServiceProviderConfig")
OPEN = re.compile(r"\(\?P<(endpoint|resource_id)>")

Handler: TypeAlias = Callable[[Request], Coroutine[Any, Any, Response]]


class DirectRoute(fastapi.routing.APIRoute):
    """A route whose handler takes the request and returns the response.

    Nothing is injected or converted on the way: that costs as much as all the rest of a request.
    """

    def __init__(self, path: str, endpoint: Handler, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        self.app = acceptances.serving(endpoint)
        self.path_regex = re.compile(OPEN.sub(_narrowed, self.path_regex.pattern))
        if self.methods and "GET" in self.methods:
            self.methods.add("HEAD")  # RFC 9110 §9.1; the server leaves the body out


def _narrowed(opened: re.Match[str]) -> str:
    """Keep an open part of a path from what has a route of its own: `.search`, and the fixed endpoints."""
    others = rf"|(?:{'|'.join(FIXED)})(?:/|$)" if opened[1] == "endpoint" else ""
    return rf"{opened[0]}(?!\.{others})"


router = fastapi.APIRouter(route_class=DirectRoute)


# The router looks at one route after the other: what is asked for most stands first. Where a path leads does
# not depend on that (`_narrowed`).


# Writing (RFC 7644 §3.3, §3.5, §3.6)


@router.post(BASE_PATH + "/{endpoint}")
async def create(request: Request) -> Response:
    """Create a resource."""
    call = await calls.enter_to_write(request)
    kind = call.resource_type
    policies.admit_create(call.config, kind)
    presenter = call.presenter(kind)
    body = policies.read_document(call.config, kind, await call.body(), is_new=True)
    target = ids.ResourceId(ids.new_uuid())
    outcome = await call.submit("create", kind, target, body)
    return await _show(call, presenter, target, outcome, 201)


@router.put(BASE_PATH + "/{endpoint}/{resource_id}")
async def replace(request: Request) -> Response:
    """Replace a resource."""
    call = await calls.enter_to_write(request)
    kind = call.resource_type
    policies.admit_change(call.config, kind)
    presenter = call.presenter(kind)
    target = call.resource_id
    body = policies.read_document(call.config, kind, await call.body(), is_new=False)
    outcome = await call.submit("replace", kind, target, body)
    return await _show(call, presenter, target, outcome, 200)


@router.patch(BASE_PATH + "/{endpoint}/{resource_id}")
async def patch(request: Request) -> Response:
    """Change parts of a resource."""
    call = await calls.enter_to_write(request)
    kind = call.resource_type
    presenter = call.presenter(kind)
    target = call.resource_id
    operations = policies.read_patch(call.config, kind, await call.body())
    policies.admit_change(call.config, kind, operations)
    outcome = await call.submit("patch", kind, target, patches.dump(operations))
    query = requests.query(request)
    is_brief = policies.patch_status(call.config, kind) == 204
    if is_brief and not ("attributes" in query or "excludedAttributes" in query):
        return answers.answer(request, 204, headers={"ETag": representations.etag(outcome.version or 0)})
    return await _show(call, presenter, target, outcome, 200)


@router.delete(BASE_PATH + "/{endpoint}/{resource_id}")
async def delete(request: Request) -> Response:
    """Delete a resource."""
    call = await calls.enter_to_write(request)
    kind = call.resource_type
    policies.admit_delete(call.config, kind)
    await call.submit("delete", kind, call.resource_id, None)
    return answers.answer(request, 204)


@router.post(BASE_PATH + "/Bulk")
async def bulk(request: Request) -> Response:
    """Create, change and delete many resources (RFC 7644 §3.7)."""
    call = await calls.enter_to_write(request)
    limits = call.services.settings
    desk = bulks.Bulks(call.registry, call.config, call.base_url)
    try:
        body = await requests.body(request, limits.bulk_max_payload)
    except errors.PayloadTooLarge:
        # RFC 7644 §3.7.4: the answer names the limit
        raise errors.PayloadTooLarge(
            f"The size of the bulk operation exceeds the maxPayloadSize ({limits.bulk_max_payload})."
        ) from None
    prepared = await desk.read(
        body,
        token_id=call.principal.token_id,
        request_id=request.scope["request_id"],
        max_operations=limits.bulk_max_operations,
    )
    # A retry of a bulk is applied again: what it would be given may have changed in many places since.
    asking = dataclasses.replace(await call.asking(), retry_key="")
    outcomes = await call.services.writes.submit_bulk(call.principal, prepared.change, prepared.bulk, asking)
    if not isinstance(outcomes, dict):
        raise acceptances.AnsweredLater(outcomes, None)
    return answers.answer(request, 200, desk.answer(prepared, outcomes))


async def _show(
    call: calls.Call,
    presenter: representations.Presenter,
    resource_id: ids.ResourceId,
    outcome: records.Outcome,
    status: int,
) -> Response:
    """Answer with the resource as the change left it, and its relations as they are now."""
    kind = presenter.resource_type
    is_new = status == 201
    resource_id = outcome.resource_id or resource_id  # a create may have revived a user that was here
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


# Reading (RFC 7644 §3.4)


@router.get(BASE_PATH)
async def query_all(request: Request) -> Response:
    """List the resources of every type that a filter matches."""
    call = await calls.enter(request)
    kinds = call.registry.resource_types
    return await _list(call, kinds, searches.from_parameters(requests.query(request)))


@router.post(BASE_PATH + "/.search")
async def search_all(request: Request) -> Response:
    """List resources of every type, asked for in the body (RFC 7644 §3.4.3)."""
    call = await calls.enter(request)
    kinds = call.registry.resource_types
    return await _list(call, kinds, searches.from_message(await call.body()))


@router.get(BASE_PATH + "/{endpoint}")
async def query(request: Request) -> Response:
    """List the resources that a filter matches."""
    call = await calls.enter(request)
    return await _list(call, (call.resource_type,), searches.from_parameters(requests.query(request)))


@router.post(BASE_PATH + "/{endpoint}/.search")
async def search(request: Request) -> Response:
    """List resources, asked for in the body (RFC 7644 §3.4.3)."""
    call = await calls.enter(request)
    kind = call.resource_type
    return await _list(call, (kind,), searches.from_message(await call.body()))


async def _list(call: calls.Call, kinds: Sequence[schemas.ResourceType], search: searches.Search) -> Response:
    return answers.answer(call.request, 200, await call.reads.search(kinds, search))


@router.get(BASE_PATH + "/{endpoint}/{resource_id}")
async def retrieve(request: Request) -> Response:
    """Show one resource."""
    call = await calls.enter(request)
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
    headers = {"ETag": representations.etag(resource.stored.version, fenced=resource.fenced)}
    # Computed groups are not part of the version: an answer that shows them is never 304.
    is_whole_state = not presenter.relations.groups and not resource.fenced
    if is_whole_state and requests.none_match(request, resource.stored.version):
        return answers.answer(request, 304, headers=headers)
    return answers.answer(request, 200, presenter.represent(resource), headers)


# Discovery (RFC 7644 §4)


@router.get(BASE_PATH + "/ServiceProviderConfig")
async def service_provider_config(request: Request) -> Response:
    """Tell what this service can do."""
    call = await _enter_to_discover(request)
    config = discoveries.service_provider_config(
        call.base_url,
        patch=policies.admits_patches(call.config, call.registry),
        bulk=policies.admits_writes(call.config, call.registry),
        bulk_operations=call.services.settings.bulk_max_operations,
        bulk_payload=call.services.settings.bulk_max_payload,
        max_results=call.services.settings.max_page_size,
        default_page_size=call.services.settings.default_page_size,
        cursor_lifetime=int(cursors.LIFETIME.total_seconds()),
    )
    return answers.answer(request, 200, config)


@router.get(BASE_PATH + "/ResourceTypes")
async def resource_types(request: Request) -> Response:
    """List the kinds of resources."""
    call = await _enter_to_discover(request)
    return answers.answer(request, 200, discoveries.resource_types(call.registry, call.base_url))


@router.get(BASE_PATH + "/ResourceTypes/{name}")
async def resource_type(request: Request) -> Response:
    """Show one kind of resource."""
    call = await _enter_to_discover(request)
    described = call.registry.by_name(request.path_params["name"])
    return answers.answer(request, 200, discoveries.resource_type(described, call.base_url))


@router.get(BASE_PATH + "/Schemas")
async def all_schemas(request: Request) -> Response:
    """List the schemas."""
    call = await _enter_to_discover(request)
    return answers.answer(request, 200, discoveries.schemas(call.registry, call.base_url))


@router.get(BASE_PATH + "/Schemas/{urn}")
async def one_schema(request: Request) -> Response:
    """Show one schema."""
    call = await _enter_to_discover(request)
    described = call.registry.by_schema(request.path_params["urn"])
    return answers.answer(request, 200, discoveries.schema(described, call.base_url))


async def _enter_to_discover(request: Request) -> calls.Call:
    call = await calls.enter(request)
    if "filter" in requests.query(request):
        raise errors.Forbidden("Discovery can't be filtered.")  # RFC 7644 §4
    return call


@router.api_route(BASE_PATH + "/Me", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
async def me(request: Request) -> Response:
    """Say that there is nobody here to be (RFC 7644 §3.11)."""
    await calls.enter(request)
    raise errors.NotImplementedYet(answers.NOBODY_IS_ME)
