"""Putting a change of a person's on a tenant's stream and waiting for what becomes of it.

So it is applied once, in its turn, by whoever drains the tenant, as if a provider had sent it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import time
import uuid

import redis.asyncio

from usher_core import errors, ids, settings
from usher_core.changes import records
from usher_core.queues import appends, connections, jobs, keys, replies
from usher_core.store import databases, inboxes, resources


class NotQueued(errors.UsherError):
    """The tenant's stream takes no further change just now; the message says why."""


class NotInTime(errors.UsherError):
    """The change is queued, and nobody knows yet what becomes of it."""


async def submit(
    config: settings.Settings, database: databases.Database, tenant: ids.TenantId, change: records.Change
) -> records.Outcome:
    """Queue a change and return its outcome once that is committed, whatever it is.

    Raises:
        NotQueued, NotInTime: see there.
        StoreUnavailable, QueueUnavailable: a backend is away.
    """
    change = dataclasses.replace(change, reply_to=keys.replies(uuid.uuid4().hex))
    async with connections.connect_async(config.redis_url) as client:
        await _append(config, database, client, tenant, change)
        outcome = await _in_time(client, change, config.apply_wait)
    # The reply itself may have been lost: the change log knows.
    outcome = outcome or await resources.find_outcome(database, tenant, change.accepted_at, change.change_id)
    if outcome is None:
        raise NotInTime(
            f"the change {change.change_id} was not applied within {config.apply_wait:g} s; it stays queued,"
            " and may still be"
        )
    return outcome


async def _append(
    config: settings.Settings,
    database: databases.Database,
    client: redis.asyncio.Redis,
    tenant: ids.TenantId,
    change: records.Change,
) -> None:
    appender = appends.Appender(
        client, functools.partial(inboxes.is_empty, database), oldest=config.apply_wait
    )
    try:
        must_wake = await appender.append(tenant, appends.Item(change.encode()))
    except appends.Backlogged:
        raise NotQueued(
            "earlier changes of the tenant are still waiting, and this one was not queued: try again later"
        ) from None
    except appends.GenerationLost:
        raise NotQueued(
            "Valkey has lost what it held, and what was promised is put back first: try again in some seconds"
        ) from None
    if must_wake:
        with contextlib.closing(connections.connect(config.redis_url)) as waking:
            await asyncio.to_thread(jobs.enqueue, jobs.queue(waking), tenant)


async def _in_time(
    client: redis.asyncio.Redis, change: records.Change, wait: float
) -> records.Outcome | None:
    """Read the outcome from the change's own list; `None` when it does not come within `wait` seconds."""
    deadline = time.monotonic() + wait
    while (left := deadline - time.monotonic()) > 0:
        try:
            with connections.wrapped():
                answer = await client.blpop([change.reply_to], timeout=min(replies.BLOCK, left))
        except errors.QueueUnavailable:
            await asyncio.sleep(min(1.0, left))
            continue
        if answer is not None and isinstance(answer[1], bytes):
            return records.Outcome.decode(answer[1])
    return None
