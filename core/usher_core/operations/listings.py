"""Lists of changes, those that wait and those that are in the log; and following them as they are applied."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

import redis.asyncio

from usher_core import errors, ids
from usher_core.changes import records
from usher_core.operations import pendings
from usher_core.store import databases, histories, inboxes

POLL: Final = 1.0
# Before a change is in its stream it may wait in its api for its turn, and then for the outcome of an earlier
# try, each as long as USHER_APPLY_WAIT may be; and the clocks of two api processes may be seconds apart.
ON_ITS_WAY: Final = datetime.timedelta(seconds=2 * 55 + 20)


async def newest(
    database: databases.Database,
    client: redis.asyncio.Redis | None,
    tenant: ids.TenantId,
    selection: histories.Selection,
    limit: int,
) -> list[histories.Entry]:
    """List the selected changes, the one accepted last first; without a client only what is in the log."""
    waiting: list[histories.Entry] = []
    if client is not None:
        found = pendings.newest_first(client, tenant)
        waiting = [entry async for entry in found if pendings.matches(entry, selection)]
    # Accepted last is almost, but not quite, what the end of the stream holds.
    waiting = sorted(waiting, key=_key, reverse=True)[:limit]
    applied = await histories.logged(database, tenant, map(_key, waiting)) if waiting else set()
    waiting = [entry for entry in waiting if entry.change_id not in applied]
    logged = await histories.page(database, tenant, selection, limit)
    return sorted([*waiting, *logged], key=_key, reverse=True)[:limit]


async def find(
    database: databases.Database,
    client: redis.asyncio.Redis | None,
    tenants: Sequence[ids.TenantId],
    change_id: ids.ChangeId,
) -> histories.Entry | None:
    """Find one change with its body, in the log or in a stream."""
    found = await histories.find(database, tenants, change_id)
    if found is not None or client is None:
        return found
    for tenant in tenants:
        async for entry in pendings.newest_first(client, tenant):
            if entry.change_id == change_id:
                # It may have been applied since the log was asked.
                return await histories.find(database, [tenant], change_id) or entry
    return await histories.find(database, tenants, change_id) or await histories.find_promised(
        database, tenants, change_id
    )


async def follow(
    database: databases.Database,
    client: redis.asyncio.Redis,
    tenant: ids.TenantId,
    selection: histories.Selection,
    *,
    seconds: float | None,
    on_start: Callable[[], None],
    on_loss: Callable[[errors.UsherError], None],
) -> AsyncIterator[histories.Entry]:
    """Yield the selected changes as they are applied, each once and in order, for `seconds` or for good.

    Begins with what is applied from now on. A backend that is away for a while delays entries and loses none.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    since = await _accepted_from(database, client, tenant)
    found = await histories.accepted_since(database, tenant, dataclasses.replace(selection, since=since))
    seen = {entry.change_id: entry.accepted_at for entry in found}
    on_start()
    lost = False
    while True:
        left = POLL if deadline is None else min(POLL, deadline - time.monotonic())
        await asyncio.sleep(max(left, 0.0))
        try:
            # Asked for before the log: all that the log may get from now on waits then, or comes later.
            following = await _accepted_from(database, client, tenant)
            found = await histories.accepted_since(
                database, tenant, dataclasses.replace(selection, since=since)
            )
        except (errors.StoreUnavailable, errors.QueueUnavailable) as exc:
            if not lost:
                on_loss(exc)
            lost = True
        else:
            lost = False
            for entry in found:
                if entry.change_id not in seen:
                    yield entry
                seen[entry.change_id] = entry.accepted_at
            since = max(since, following)
            seen = {one: moment for one, moment in seen.items() if moment >= since}
        if deadline is not None and time.monotonic() >= deadline:
            return


async def waiting_about(
    client: redis.asyncio.Redis, tenant: ids.TenantId, subject: histories.Subject
) -> list[histories.Entry]:
    """List the waiting changes that concern these resources, the one applied next first."""
    found = [
        entry async for entry in pendings.newest_first(client, tenant) if pendings.is_about(entry, subject)
    ]
    return found[::-1]


async def _accepted_from(
    database: databases.Database, client: redis.asyncio.Redis, tenant: ids.TenantId
) -> datetime.datetime:
    """Tell since when everything was accepted that may yet be applied.

    What is promised may be in no stream, or have been put at its end long after its acceptance. Nothing else
    in a stream was accepted longer than `ON_ITS_WAY` before the head was put there.
    """
    promised = await inboxes.oldest(database, tenant)
    head = await pendings.oldest(client, tenant)
    waiting = [moment for moment in (promised, None if head is None else head.accepted_at) if moment]
    return min([records.now(), *waiting]) - ON_ITS_WAY


def _key(entry: histories.Entry) -> histories.Keyset:
    return entry.accepted_at, entry.change_id
