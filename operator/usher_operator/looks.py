"""One look at a tenant: whatever its ScimTenant asks for is brought about, and its status tells what is.

`agendas` calls it, several tenants beside each other and none twice. Invariant: it decides by the object, the
store and the Secrets alone, so that a look after a crash, by another operator or for no reason at all ends
the same; a failure becomes a condition and a later look.
"""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from kubernetes.aio import client

from usher_core import errors
from usher_core.store import databases, terms
from usher_core.tenants import conditions, definitions, manifests, reconciliations, sources, vaults
from usher_operator import (
    agendas,
    announcements,
    clients,
    inventories,
    metrics,
    objects,
    paces,
    rotation_requests,
    status_writes,
    statuses,
)
from usher_operator import conditions as written_conditions
from usher_operator import sources as kubernetes_sources
from usher_operator import vaults as kubernetes_vaults
from usher_operator.inventories import Body, Key

log = structlog.get_logger(__name__)

_WRONG = {"TokensIssued": "False", "SSOReady": "False", "SchemasReady": "False", "Conflict": "True"}


@dataclasses.dataclass
class Service:
    """What a look needs; one of it serves the operator's event loop."""

    database: databases.Database
    term: terms.Term
    api: client.CoreV1Api
    inventory: inventories.Inventory
    agenda: agendas.Agenda
    objects: objects.Objects
    statuses: status_writes.Writer
    announcer: announcements.Announcer
    sources: kubernetes_sources.RememberedSources
    public_url: str | None
    redis_url: str | None
    failures: paces.Failures = dataclasses.field(default_factory=paces.Failures)
    leads: bool = False
    last_event: float = dataclasses.field(default_factory=time.monotonic)


async def look(service: Service, key: Key) -> float | None:
    """Look at a tenant; returns in how many seconds to look again, `None` for not by itself.

    Raises:
        OperatorSuperseded: another operator is at work.
    """
    body = service.inventory.get(key)
    if body is None:
        return None
    try:
        with metrics.LOOK_SECONDS.time():
            await service.term.ensure()
            gone = body["metadata"].get("deletionTimestamp")
            again = await (_remove(service, body) if gone else _reconcile(service, body))
    except errors.OperatorSuperseded:
        raise
    except errors.ManifestInvalid as exc:
        return await _tell_failure(service, body, conditions.false("Ready", "SpecInvalid", str(exc)), None)
    except errors.StoreUnavailable as exc:
        metrics.AWAY.labels("postgresql").inc()
        failure = conditions.Condition("Ready", "Unknown", "StoreUnavailable", str(exc))
        return await _tell_failure(service, body, failure, service.failures.delay(key))
    except (vaults.VaultUnavailable, sources.SourceUnavailable) as exc:
        return await _postpone(service, body, exc)
    except Exception:  # the outermost loop: a fault of ours with one tenant must not stop the others
        log.exception("look failed", namespace=key.namespace, tenant=key.name)
        metrics.LOOKS.labels("fault").inc()
        return service.failures.delay(key, refused=True)
    service.failures.forget(key)
    metrics.LOOKS.labels("done").inc()
    return again


async def _reconcile(service: Service, body: Body) -> float:
    key = inventories.key_of(body)
    if objects.FINALIZER not in body["metadata"].get("finalizers", ()):
        # First of all: from now on the tenant can't go without its tokens being revoked.
        finalizers = [*body["metadata"].get("finalizers", ()), objects.FINALIZER]
        await service.objects.patch_metadata(body, {"finalizers": finalizers})
        body = service.inventory.get(key) or body
    now = datetime.now(UTC)
    manifest = manifests.parse(dict(body))
    request = rotation_requests.read(body["metadata"], [token.name for token in manifest.spec.tokens], now)
    if request is not None and request.wanted and not request.is_stamped:
        stamped = {rotation_requests.ANNOTATION: request.stamp(now)}
        await service.objects.patch_metadata(body, {"annotations": stamped})
        await _refuse(service, body, request)
        return 0.0
    done = await reconciliations.reconcile(
        manifest,
        service.sources,
        kubernetes_vaults.KubernetesVault(service.api, _owner(body)),
        service.database,
        service.public_url,
        definitions.Channel("operator", service.redis_url),
        now,
        request.stamped if request is not None else None,
    )
    wait = await _tell(service, body, done, now)
    if request is not None:
        await _answer(service, body, request, done)
    return paces.after(done, service.inventory.get(key) or body, now, at_most=wait)


async def _tell(service: Service, body: Body, done: reconciliations.Reconciled, now: datetime) -> float:
    """Tell what a reconciliation found; returns in how many seconds to tell the rest, or 0."""
    key = inventories.key_of(body)
    existing = (service.inventory.get(key) or body).get("status") or {}
    generation = int(body["metadata"].get("generation", 0))
    before = (existing.get("endpoint") or {}).get("url")
    wait = await service.statuses.write(body, statuses.of_reconciled(existing, done, generation, now))
    metrics.note_sso(key.namespace, key.name, done.sso_ends_at)
    for happening in done.happenings:
        metrics.TOKENS.labels(happening.reason).inc()
        log.info(happening.message, namespace=key.namespace, tenant=key.name, reason=happening.reason)
        await service.announcer.announce(body, "Normal", happening.reason, happening.message)
    for condition in done.conditions:
        if _is_wrong(condition, required=_requires_sso(body)):
            await _warn(service, body, existing, condition)
    if before not in (None, done.url):
        await reconsider_conflicts(service)
    return wait


def _is_wrong(condition: conditions.Condition, *, required: bool) -> bool:
    """Tell whether a person would want to hear of a condition."""
    if condition.type == "SSOReady" and not required:
        return False
    return condition.status == _WRONG.get(condition.type)


def _requires_sso(body: Body) -> bool:
    mode = ((body.get("spec") or {}).get("sso") or {}).get("mode", "Required")
    return bool(mode == "Required")


async def _answer(
    service: Service, body: Body, request: rotation_requests.Request, done: reconciliations.Reconciled
) -> None:
    """Take the annotation off once nothing of it is open."""
    issued = {token.name: token.current.issued_at for token in done.tokens}
    if rotation_requests.still_open(request, issued):
        return
    latest = service.inventory.get(inventories.key_of(body)) or body
    await service.objects.patch_metadata(latest, {"annotations": {rotation_requests.ANNOTATION: None}})
    await _refuse(service, body, request)


async def _refuse(service: Service, body: Body, request: rotation_requests.Request) -> None:
    """Tell of the names that a request had and the spec has not; it has them no more."""
    for name in request.unknown:
        message = f"{rotation_requests.ANNOTATION} names {name}, which is none of spec.tokens"
        await service.announcer.announce(body, "Warning", "RotationRefused", message)


async def _remove(service: Service, body: Body) -> float | None:
    key, metadata, now = inventories.key_of(body), body["metadata"], datetime.now(UTC)
    if objects.FINALIZER not in metadata.get("finalizers", ()):
        return None
    policy = (body.get("spec") or {}).get("deletionPolicy", "Retain")
    vault = kubernetes_vaults.KubernetesVault(service.api, _owner(body))
    progress = await reconciliations.remove(*key, policy, vault, service.database, now)
    if progress is not None:
        existing = body.get("status") or {}
        deleting = conditions.false("Ready", "Deleting", f"the tenant's data are being deleted: {progress}")
        generation = int(metadata.get("generation", 0))
        await service.statuses.write(body, statuses.of_failure(existing, deleting, generation, now))
        return 0.0
    latest = service.inventory.get(key) or body
    others = [name for name in latest["metadata"].get("finalizers", ()) if name != objects.FINALIZER]
    await service.objects.patch_metadata(latest, {"finalizers": others or None})
    metrics.note_sso(key.namespace, key.name, None)
    log.info("tenant removed", namespace=key.namespace, tenant=key.name, policy=policy)
    await reconsider_conflicts(service)
    return None


async def reconsider_conflicts(service: Service) -> None:
    """Look at the tenants whose host another one had: it may be free by now."""
    for key in service.inventory:
        status = (service.inventory.get(key) or {}).get("status") or {}
        if written_conditions.find(status, "Conflict").get("status") == "True":
            service.agenda.add(key)


async def _postpone(service: Service, body: Body, exc: errors.UsherError) -> float | None:
    key = inventories.key_of(body)
    status = exc.status if isinstance(exc, clients.KubernetesUnavailable) else None
    if status in (404, 409):
        # It is another one by now, or gone: the watch will tell, if it has not.
        metrics.LOOKS.labels("changed").inc()
        if service.inventory.get(key) is None:
            service.statuses.forget(key)
            service.failures.forget(key)
            return None
        return service.failures.delay(key)
    refused = isinstance(exc, clients.KubernetesUnavailable) and exc.is_refusal
    wanted = exc.retry_after if isinstance(exc, clients.KubernetesUnavailable) else 0.0
    delay = max(service.failures.delay(key, refused=refused), wanted)
    failure = conditions.Condition("Ready", "Unknown", "KubernetesUnavailable", str(exc))
    return await _tell_failure(service, body, failure, delay, warn=refused)


async def _tell_failure(
    service: Service, body: Body, failure: conditions.Condition, delay: float | None, *, warn: bool = False
) -> float | None:
    """Tell why a look came to nothing, as far as the API server lets us."""
    metrics.LOOKS.labels(failure.reason).inc()
    existing = body.get("status") or {}
    generation, now = int(body["metadata"].get("generation", 0)), datetime.now(UTC)
    try:
        if warn or delay is None:
            await _warn(service, body, existing, failure)
        await service.statuses.write(body, statuses.of_failure(existing, failure, generation, now))
    except clients.KubernetesUnavailable as exc:
        log.warning("status not written", tenant=body["metadata"]["name"], reason=str(exc))
        if exc.status != 404 and delay is None:
            return paces.LONGEST_RETRY * random.uniform(1, 2)  # noqa: S311 - spreads the load
    return delay


async def _warn(
    service: Service, body: Body, existing: Mapping[str, Any], condition: conditions.Condition
) -> None:
    """Post an event about what is wrong, once."""
    if written_conditions.is_news(existing.get("conditions") or [], condition):
        await service.announcer.announce(body, "Warning", condition.reason, condition.message)


def _owner(body: Body) -> dict[str, str]:
    metadata = body["metadata"]
    return {
        "apiVersion": body["apiVersion"],
        "kind": body["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }
