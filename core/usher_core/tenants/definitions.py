"""The schemas and resource types that a manifest asks for: read, asked of the tenant's stream, and judged.

Called by `reconciliations`. A living tenant's schemas change in their turn like everything else, after all
that is stored was checked against them, so a call asks and goes on; a later one tells what became of it.
Invariant: the same schemas are asked for once, and again only when what stood against them has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

import redis.asyncio
import structlog

from usher_core import errors, ids
from usher_core.changes import records, snapshots
from usher_core.queues import appends, connections, generations, jobs
from usher_core.scim import registries
from usher_core.store import databases, inboxes, schema_requests
from usher_core.tenants import conditions, manifests, sources
from usher_core.tenants.conditions import Condition

log = structlog.get_logger(__name__)

Origin: TypeAlias = Literal["operator", "dev"]
"""Who asks; it stands in the change log where requests have their token."""

_TYPE: Final = "SchemasReady"
_LONGEST: Final = 8192


@dataclasses.dataclass(frozen=True, slots=True)
class Channel:
    """The way to the tenants' streams.

    Without a URL what is asked for is found by the sweep, some ten seconds later.
    """

    origin: Origin
    redis_url: str | None = dataclasses.field(default=None, repr=False)


class _Unreadable(errors.UsherError):
    """What the manifest names can't be had; `condition` says why."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.condition = conditions.false(_TYPE, reason, message[:_LONGEST])


async def reconcile(
    manifest: manifests.ScimTenant,
    sources_: sources.Sources,
    database: databases.Database,
    channel: Channel,
) -> Condition | None:
    """Ask for the schemas of a manifest unless that was done; tell how they stand.

    `None` for a tenant that has, and had, only ours.

    Raises:
        StoreUnavailable, SourceUnavailable: try again.
    """
    standing = await schema_requests.find(database, manifest.tenant)
    if manifest.spec.provisioning.schemas_config_map_ref is None and standing.request is None:
        return None
    try:
        documents = await _wanted(manifest, sources_)
    except _Unreadable as exc:
        return exc.condition
    digest = schema_requests.digest_of(documents)
    if await _must_ask(database, manifest.tenant, digest, standing):
        await _ask(database, manifest.tenant, documents, channel)
        standing = await schema_requests.find(database, manifest.tenant)
    if digest == standing.accepted and (standing.request is None or _is_over(standing.request)):
        return _accepted(documents)
    assert standing.request is not None  # noqa: S101 - it was made just now, if not before
    return _told(standing.request)


async def _wanted(manifest: manifests.ScimTenant, sources_: sources.Sources) -> list[dict[str, object]]:
    reference = manifest.spec.provisioning.schemas_config_map_ref
    if reference is None:
        return []
    texts = await sources_.get_config_map(manifest.metadata.namespace, reference.name)
    if texts is None:
        raise _Unreadable(
            "SchemasMissing",
            f"there is no ConfigMap {reference.name} (spec.provisioning.schemasConfigMapRef): the schemas "
            "stay as they are",
        )
    try:
        return registries.parse(texts)
    except errors.InvalidValue as exc:
        raise _Unreadable(
            "Invalid",
            f"ConfigMap {reference.name}: {exc.detail} Correct it; until then the schemas stay as they are",
        ) from exc


def _is_over(request: schema_requests.Request) -> bool:
    return request.state not in ("queued", "checking")


async def _must_ask(
    database: databases.Database,
    tenant: ids.TenantId,
    digest: str,
    standing: schema_requests.Standing,
) -> bool:
    request = standing.request
    if request is not None and request.digest == digest:
        if request.state == "refused":
            # Another look at everything is worth while only when all that is known to be wrong has changed.
            return not await schema_requests.any_stands(database, tenant, request.contradictions)
        return False
    # What holds need not be asked for, unless something else is on its way.
    return digest != standing.accepted or (request is not None and not _is_over(request))


async def _ask(
    database: databases.Database, tenant: ids.TenantId, documents: list[dict[str, object]], channel: Channel
) -> None:
    change = records.Change(
        change_id=ids.ChangeId(ids.new_uuid()),
        accepted_at=records.now(),
        operation="schemas",
        resource_type="Schema",
        resource_id=snapshots.NO_RESOURCE,
        body=documents,
        if_match=None,
        token_id=channel.origin,
        request_id="",
        reply_to="",
        promised=True,
    )
    log.info("schemas.asked", tenant=str(tenant), change=str(change.change_id))
    if channel.redis_url is None:
        await schema_requests.put(database, tenant, change)
        return
    async with connections.connect_async(channel.redis_url) as client:
        with _unless_away(tenant):
            await _begin(database, client)
        await schema_requests.put(database, tenant, change)
        with _unless_away(tenant):
            if await _append(database, client, tenant, change):
                await asyncio.to_thread(_wake, channel.redis_url, tenant)


@contextlib.contextmanager
def _unless_away(tenant: ids.TenantId) -> Iterator[None]:
    """Pass over what the queue can't do now: what is promised the sweep puts on the stream."""
    try:
        yield
    except errors.UsherError as exc:
        log.warning("schemas.not_appended", tenant=str(tenant), reason=type(exc).__name__)


async def _begin(database: databases.Database, client: redis.asyncio.Redis) -> None:
    """Make a new server ours before there is a promise, after which only the sweep may."""
    run_id, ours = await generations.current(client)
    if not ours and await inboxes.is_empty(database):
        await generations.begin(client, run_id)


async def _append(
    database: databases.Database, client: redis.asyncio.Redis, tenant: ids.TenantId, change: records.Change
) -> bool:
    """Put the change on the stream; tells whether a drain must be woken."""
    appender = appends.Appender(client, functools.partial(inboxes.is_empty, database), oldest=0)
    return await appender.append(
        tenant, appends.Item(change.encode(), urgent=True, promised=change.change_id)
    )


def _wake(redis_url: str, tenant: ids.TenantId) -> None:
    with contextlib.closing(connections.connect(redis_url)) as client:
        jobs.enqueue(jobs.queue(client), tenant)


def _accepted(documents: list[dict[str, object]]) -> Condition:
    if not documents:
        return conditions.true(_TYPE, "Accepted", "the tenant has the standard schemas, and none of its own")
    registry = registries.build(documents, 0)
    kinds = ", ".join(f"/{kind.endpoint}" for kind in registry.resource_types)
    unused = registries.unused(registry)
    hint = f"; no resource type has the schema {', '.join(unused)}" if unused else ""
    return conditions.true(
        _TYPE, "Accepted", f"the schemas are in force, and the tenant has {kinds}{hint}"[:_LONGEST]
    )


def _told(request: schema_requests.Request) -> Condition:
    match request.state:
        case "queued":
            return _checking("the schemas wait for their turn among the tenant's changes")
        case "checking":
            return _checking(f"{request.checked:,} of {request.total:,} checked; later changes wait")
        case "failed":
            return conditions.false(
                _TYPE,
                "CheckFailed",
                f"the change {request.change_id} became a dead letter, for a fault of this service: the "
                "schemas stay as they were. Others in the ConfigMap are tried again",
            )
        case _:
            return conditions.false(_TYPE, "Contradicted", _contradicted(request)[:_LONGEST])


def _checking(message: str) -> Condition:
    return conditions.Condition(_TYPE, "Unknown", conditions.CHECKING, message)


def _contradicted(request: schema_requests.Request) -> str:
    listed = "; ".join(
        f"{one.type} {one.id}: {f'{one.attribute} {one.reason}'.strip()}" for one in request.contradictions
    )
    more = request.found - len(request.contradictions)
    rest = f"; and {more:,} more" if more > 0 else ""
    return (
        f"the schemas stay as they were, for {request.found:,} of what is stored contradict the new ones: "
        f"{listed}{rest}. They are checked again when all of those listed have changed"
    )
