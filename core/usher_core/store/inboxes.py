"""Changes that are promised before their turn: what the api accepts into PostgreSQL, and what is left there.

A revocation and a change that is answered 202 stand here from their acceptance until their turn in the
tenant's stream, with the fences of what they take away. So neither is lost with the queue, and the access is
gone at once. The sweep puts back into the streams what a loss took out of them.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from usher_core import errors, ids
from usher_core.changes import events, records, revocations
from usher_core.store import databases

ACCEPT = "SELECT usher_accept(%s, %s, %s, %s, %s, %s)"
KEEP = "SELECT usher_keep_change_log(%s)"
FIRST = "SELECT tenant FROM usher_inbox('infinity', %s, 0, 1)"
OLDEST = "SELECT min(accepted_at) FROM inbox WHERE tenant = %s"
NOBODY = uuid.UUID(int=0)

Fenced = tuple[records.Change, Sequence[revocations.Fence]]
"""A change, or one operation of a bulk, with what it takes away."""


async def accept(
    database: databases.Database, tenant: ids.TenantId, change: records.Change, fenced: Iterable[Fenced]
) -> None:
    """Accept a change for good; what it takes away reads as taken away when this returns.

    Raises:
        StoreUnavailable: PostgreSQL is away; whether the change was accepted is not known.
        TenantGone: there is no such tenant any more.
    """
    fenced = list(fenced)
    values = (
        tenant,
        change.change_id,
        change.accepted_at,
        change.encode(),
        Jsonb([_fence(part, fence) for part, fences in fenced for fence in fences]),
        Jsonb([event.to_row() for part, fences in fenced for event in events.of_fences(part, fences)]),
    )
    try:
        [[(number,)]] = await database.fetch(tenant, (ACCEPT, values))
    except psycopg.errors.CheckViolation:
        # The events have no partition for this month: the sweep was away at its beginning.
        await database.fetch(None, (KEEP, (records.now(),)))
        [[(number,)]] = await database.fetch(tenant, (ACCEPT, values))
    if number is None:
        raise errors.TenantGone(f"tenant {tenant}")


async def is_empty(database: databases.Database) -> bool:
    """Tell whether no tenant has a promised change.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    [rows] = await database.fetch(None, (FIRST, (NOBODY,)))
    return not rows


async def oldest(database: databases.Database, tenant: ids.TenantId) -> datetime.datetime | None:
    """Tell when the oldest of a tenant's promised changes was accepted; `None` when it has none.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    [[(moment,)]] = await database.fetch(tenant, (OLDEST, (tenant,)))
    return moment  # type: ignore[no-any-return]


def _fence(change: records.Change, fence: revocations.Fence) -> dict[str, Any]:
    return {
        "subject": str(fence.subject),
        "group_id": str(fence.group or NOBODY),
        "change_id": str(change.change_id),
    }
