"""Keeps the figures in the statuses true: users, groups, what waits, dead letters, last change, last uses.

`processes` runs it beside the looks. All tenants are asked for in one query and one pipeline, every ten
seconds, and only statuses that differ are written. Invariant: a figure that can't be had is not there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import redis.asyncio
import structlog

from usher_core import errors, ids
from usher_core.queues import connections, lengths
from usher_core.store import figures
from usher_core.tenants import manifests
from usher_operator import clients, looks, metrics, statuses
from usher_operator.inventories import Key

EVERY = 10.0  # seconds

log = structlog.get_logger(__name__)


async def keep(service: looks.Service) -> None:
    """Keep the figures true, for ever.

    Raises:
        OperatorSuperseded: another operator is at work.
    """
    async with contextlib.AsyncExitStack() as stack:
        queue = None
        if service.redis_url is not None:
            queue = await stack.enter_async_context(connections.connect_async(service.redis_url))
        while True:
            await asyncio.sleep(EVERY)
            try:
                await service.term.ensure()
                found = await figures.find_all(service.database)
            except errors.StoreUnavailable as exc:
                metrics.AWAY.labels("postgresql").inc()
                log.warning("figures not read", reason=str(exc))
                continue
            await tell(service, found, await _pending(queue))


async def tell(
    service: looks.Service,
    found: Mapping[ids.TenantId, figures.Figures],
    pending: Mapping[ids.TenantId, int] | None,
) -> None:
    """Write the figures into the statuses that differ."""
    for key in service.inventory:
        tenant = manifests.tenant_id(*key)
        if tenant in found:
            count = None if pending is None else pending.get(tenant, 0)
            await _tell_one(service, key, found[tenant], count)


async def _tell_one(service: looks.Service, key: Key, found: figures.Figures, pending: int | None) -> None:
    body = service.inventory.get(key)
    status = (body or {}).get("status") or {}
    if body is None or "observedGeneration" not in status or body["metadata"].get("deletionTimestamp"):
        return  # the first look tells it all
    if any("previous" in token and "lastUsedAt" not in token and token.get("id") in found.used
           for token in status.get("tokens") or ()):  # fmt: skip
        service.agenda.add(key)  # the new token was seen in use: the old one has its end now
    try:
        await service.statuses.write(body, statuses.of_figures(status, found, pending))
    except clients.KubernetesUnavailable as exc:
        if exc.status not in (404, 409):
            log.warning("figures not written", namespace=key.namespace, tenant=key.name, reason=str(exc))


async def _pending(queue: redis.asyncio.Redis | None) -> Mapping[ids.TenantId, int] | None:
    if queue is None:
        return None
    try:
        return await lengths.pending(queue)
    except errors.QueueUnavailable as exc:
        metrics.AWAY.labels("valkey").inc()
        log.warning("pending changes not counted", reason=str(exc))
        return None
