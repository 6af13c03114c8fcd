"""What kopf calls: a ScimTenant was made, changed or deleted, the operator came back, time went by.

`processes` runs them. Each call brings the tenant to what it should be, by what is: a restart calls every
one again and changes nothing. Invariant: one call at a time for a tenant; what was once removed is not
brought back by a call that came late.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import Any

import kopf
import structlog
from kubernetes.aio import client

from usher_core import errors
from usher_core.store import databases
from usher_core.tenants import conditions, manifests, reconciliations, sources, vaults
from usher_operator import conditions as written_conditions
from usher_operator import sources as kubernetes_sources
from usher_operator import statuses
from usher_operator import vaults as kubernetes_vaults

LOOK_AGAIN = 300.0  # seconds; Secrets and ConfigMaps that changed are noticed within this time
AT_ONCE = 8  # tenants that are reconciled beside each other
RESOURCE = (manifests.GROUP, manifests.VERSION, "scimtenants")

registry = kopf.OperatorRegistry()

log = structlog.get_logger(__name__)


@dataclasses.dataclass
class Service:
    """What every handler needs; `slots` bounds how many of them work at once."""

    database: databases.Database
    api: client.CoreV1Api
    public_url: str | None
    slots: asyncio.Semaphore = dataclasses.field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    last_event: float = dataclasses.field(default_factory=time.monotonic)


@kopf.on.startup(registry=registry)
async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Set kopf up for an operator with few rights that must not fall silent."""
    settings.scanning.disabled = True  # no right to list CRDs or namespaces
    settings.peering.standalone = True
    settings.persistence.finalizer = "usher.dev/operator"
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix="usher.dev")
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix="usher.dev")
    # A watch that lost its peer says nothing: it is opened anew, whatever happens.
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 270
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70  # the API server sends a bookmark each minute
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.execution.default_backoff = 15
    settings.posting.reporting_component = "usher-operator"
    settings.posting.event_name_prefix = "usher-"


@kopf.on.login(registry=registry)
def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's service account, or elsewhere by the kubeconfig."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


@kopf.on.probe(registry=registry, id="secondsSinceLastEvent")
async def seconds_since_last_event(memo: kopf.Memo, **_: Any) -> int:
    """Tell how long the watch has been silent."""
    return int(time.monotonic() - memo.service.last_event)


@kopf.on.event(*RESOURCE, registry=registry)
async def note_event(memo: kopf.Memo, **_: Any) -> None:
    """Note that the watch is alive."""
    memo.service.last_event = time.monotonic()


@kopf.on.resume(*RESOURCE, registry=registry, id="reconcile")
@kopf.on.create(*RESOURCE, registry=registry, id="reconcile")
@kopf.on.update(*RESOURCE, registry=registry, id="reconcile")
@kopf.timer(
    *RESOURCE,
    registry=registry,
    id="look-again",
    interval=LOOK_AGAIN,
    initial_delay=lambda **_: random.uniform(0, LOOK_AGAIN),  # noqa: S311 - spreads the load
)
async def reconcile(body: kopf.Body, patch: kopf.Patch, memo: kopf.Memo, **_: Any) -> None:
    """Bring a tenant to what its ScimTenant says, and tell in its status."""
    service: Service = memo.service
    async with _alone(memo), service.slots:
        if memo.get("removed"):
            return
        existing, generation = body.get("status") or {}, int(body["metadata"].get("generation", 0))
        namespace, name, now = body["metadata"]["namespace"], body["metadata"]["name"], datetime.now(UTC)
        with _mapped(body, patch, existing, generation, now):
            done = await reconciliations.reconcile(
                manifests.parse(dict(body)),
                kubernetes_sources.KubernetesSources(service.api),
                _vault(service, body),
                service.database,
                service.public_url,
                now,
            )
        for happening in done.happenings:
            log.info(happening.message, namespace=namespace, tenant=name, reason=happening.reason)
            kopf.event(body, type="Normal", reason=happening.reason, message=happening.message)
        issued = done.condition("TokensIssued")
        if issued.status == "False":
            _warn(body, existing, issued)
        patch.status.update(statuses.of_reconciled(existing, done, generation, now))


@kopf.on.delete(*RESOURCE, registry=registry, id="remove")
async def remove(body: kopf.Body, patch: kopf.Patch, memo: kopf.Memo, **_: Any) -> None:
    """Revoke a tenant's tokens, and with the policy Delete take its data away."""
    service: Service = memo.service
    async with _alone(memo), service.slots:
        existing, generation = body.get("status") or {}, int(body["metadata"].get("generation", 0))
        now = datetime.now(UTC)
        with _mapped(body, patch, existing, generation, now):
            await reconciliations.remove(
                body["metadata"]["namespace"],
                body["metadata"]["name"],
                (body.get("spec") or {}).get("deletionPolicy", "Retain"),
                _vault(service, body),
                service.database,
                now,
            )
        memo.removed = True
        log.info("tenant removed", namespace=body["metadata"]["namespace"], tenant=body["metadata"]["name"])


@contextlib.asynccontextmanager
async def _alone(memo: kopf.Memo) -> AsyncIterator[None]:
    """Hold the tenant: its timer and its changes come from different tasks."""
    if "lock" not in memo:
        memo.lock = asyncio.Lock()
    async with memo.lock:
        yield


def _vault(service: Service, body: kopf.Body) -> kubernetes_vaults.KubernetesVault:
    metadata = body["metadata"]
    owner = {key: body[key] for key in ("apiVersion", "kind")} | {
        key: metadata[key] for key in ("name", "uid")
    }
    return kubernetes_vaults.KubernetesVault(service.api, owner)


@contextlib.contextmanager
def _mapped(
    body: kopf.Body, patch: kopf.Patch, existing: Any, generation: int, now: datetime
) -> Iterator[None]:
    """Turn what went wrong into a condition, and into kopf's words for give up and try again."""
    try:
        yield
    except errors.ManifestInvalid as exc:
        failure = conditions.false("Ready", "SpecInvalid", str(exc))
        _fail(body, patch, existing, failure, generation, now)
        raise kopf.PermanentError(f"SpecInvalid: {exc}") from exc
    except errors.StoreUnavailable as exc:
        failure = conditions.Condition("Ready", "Unknown", "StoreUnavailable", str(exc))
        _fail(body, patch, existing, failure, generation, now)
        raise kopf.TemporaryError(f"StoreUnavailable: {exc}", delay=_soon(5)) from exc
    except (vaults.VaultUnavailable, sources.SourceUnavailable) as exc:
        failure = conditions.Condition("Ready", "Unknown", "KubernetesUnavailable", str(exc))
        _fail(body, patch, existing, failure, generation, now)
        # A refusal (a right is missing, a value is not taken) will not be gone in a moment.
        refused = getattr(exc, "status", None) in (400, 401, 403, 422)
        raise kopf.TemporaryError(f"KubernetesUnavailable: {exc}", delay=_soon(60 if refused else 5)) from exc


def _fail(
    body: kopf.Body,
    patch: kopf.Patch,
    existing: Any,
    failure: conditions.Condition,
    generation: int,
    now: datetime,
) -> None:
    _warn(body, existing, failure)
    patch.status.update(statuses.of_failure(existing, failure, generation, now))


def _warn(body: kopf.Body, existing: Any, condition: conditions.Condition) -> None:
    """Post an event about what is wrong, once."""
    if written_conditions.is_news(existing.get("conditions") or [], condition):
        kopf.event(body, type="Warning", reason=condition.reason, message=condition.message)


def _soon(seconds: float) -> float:
    """Spread retries, so that a thousand tenants don't come back in one moment."""
    return seconds * random.uniform(1, 2)  # noqa: S311
