"""What kopf calls: it watches, and each thing that it sees puts a tenant on the agenda.

`processes` hands the registry to kopf, which lists, watches and comes back from every failure of the API
server. It handles events only, so it writes nothing itself: no annotation, no finalizer, no progress.
Invariant: nothing is decided here but when to look.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, cast

import kopf

from usher_core.tenants import manifests
from usher_operator import inventories, looks, objects, paces
from usher_operator.inventories import Body

RESOURCE = (manifests.GROUP, manifests.VERSION, objects.PLURAL)
WATCHED_LABEL = "usher.dev/tenant"
"""Secrets and ConfigMaps with this label are watched, if the operator may; ours have it."""

_KINDS = {"secrets": "Secret", "configmaps": "ConfigMap"}


class _NoEssence(kopf.DiffBaseStorage):
    """Keeps nothing of objects to compare them with: events alone are handled, and `_matters` compares."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Take nothing out of an object; by default it would be copied at each event."""
        return cast("kopf.BodyEssence", {})

    def fetch(self, **_: Any) -> None:
        """Find nothing."""

    def store(self, **_: Any) -> None:
        """Store nothing."""


class _Patience:
    """The seconds between two tries of what the API server refuses: there is no last one."""

    def __iter__(self) -> Iterator[float]:
        yield from (1, 1, 2, 3, 5)
        while True:
            yield 8


def registry(*, watch_sources: bool) -> kopf.OperatorRegistry:
    """Make what kopf calls; with `watch_sources` it watches labelled Secrets and ConfigMaps too."""
    made = kopf.OperatorRegistry()
    kopf.on.startup(registry=made)(configure)
    kopf.on.login(registry=made)(log_in)
    kopf.on.event(*RESOURCE, registry=made)(note_tenant)
    if watch_sources:
        for plural in _KINDS:
            kopf.on.event("", "v1", plural, registry=made)(note_source)
    return made


async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Set kopf up for an operator with few rights that must not fall silent."""
    settings.scanning.disabled = True  # no right to list CRDs or namespaces
    settings.peering.standalone = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoEssence()
    settings.queueing.idle_timeout = 1.0  # a task an object is much memory where there are many
    # A watch that lost its peer says nothing: it is opened anew, whatever happens.
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 270
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 70  # the API server sends a bookmark each minute
    settings.watching.reconnect_backoff = 1.0
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 10
    settings.networking.error_backoffs = _Patience()
    for plural in _KINDS:
        settings.watching.label_selectors["", "v1", plural] = WATCHED_LABEL


def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Log in as the pod's service account, or elsewhere by the kubeconfig."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


async def note_tenant(type: str | None, body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:  # noqa: A002
    """Take in what a ScimTenant has become, and have it looked at if that may matter."""
    service: looks.Service = memo.service
    service.last_event = time.monotonic()
    seen = _slim(body)
    key = inventories.key_of(seen)
    if type == "DELETED":
        service.inventory.drop(seen)
        if service.inventory.get(key) is None:
            service.agenda.forget(key)
            service.statuses.forget(key)
            service.failures.forget(key)
        return
    before = service.inventory.get(key)
    if not service.inventory.put(seen):
        return
    if before is None:
        service.agenda.add(key, paces.at_first(seen, len(service.inventory)) if type is None else 0.0)
    elif _matters(before) != _matters(seen):
        for kind, name in inventories.references(seen):
            service.sources.forget(kind, key.namespace, name)
        service.failures.forget(key)
        service.agenda.add(key)


async def note_source(
    type: str | None,  # noqa: A002
    body: kopf.Body,
    resource: kopf.Resource,
    memo: kopf.Memo,
    **_: Any,
) -> None:
    """Have the tenants looked at that name a Secret or ConfigMap that changed or went."""
    service: looks.Service = memo.service
    if type is None:
        return  # it was there before
    kind, metadata = _KINDS[resource.plural], body["metadata"]
    service.sources.forget(kind, metadata["namespace"], metadata["name"])
    for key in service.inventory.naming(metadata["namespace"], kind, metadata["name"]):
        service.agenda.add(key)


def _slim(body: Body) -> Body:
    """Leave out what nobody here reads and what is most of an object."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "managedFields"}
    return {**body, "metadata": metadata}


def _matters(body: Body) -> tuple[Any, ...]:
    """Tell what may make another look worth while; what we write ourselves is not among it."""
    metadata = body["metadata"]
    return (
        metadata["uid"],
        metadata.get("deletionTimestamp"),
        metadata.get("labels"),
        metadata.get("annotations"),
        body.get("spec"),
    )
