"""Bringing a deleted user back: a change like any other, through the tenant's stream, in its turn.

So it is applied once and in order, by whoever drains the tenant, and decided by what is there by then: a
userName that was taken meanwhile stays its new owner's. Called by `usher users restore`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid

import redis.asyncio

from usher_core import errors, ids, settings
from usher_core.changes import policies, records
from usher_core.queues import connections, jobs, keys, replies, streams
from usher_core.store import databases, deletions, resources

ORIGIN = "usher users restore"
"""Stands in the change log where requests have their id."""


class RestorationRefused(errors.UsherError):
    """The user can't be brought back as things are; the message says why."""


async def restore(
    config: settings.Settings, database: databases.Database, tenant: ids.TenantId, user: ids.ResourceId
) -> records.Outcome:
    """Restore a deleted user under its old id, in no group; returns once that is committed.

    Raises:
        RestorationRefused: there is no such deleted user, or its userName is taken; or it is not known in
            time whether it was restored.
        StoreUnavailable, QueueUnavailable: a backend is away.
    """
    found = await deletions.find_user(database, tenant, user)
    if found is None:
        raise RestorationRefused(
            f"there is no deleted user with the id {user}: it lives, never was, or is no longer kept"
        )
    change = records.Change(
        change_id=ids.ChangeId(ids.new_uuid()),
        accepted_at=records.now(),
        operation="restore",
        resource_type=policies.USERS,
        resource_id=user,
        body=found.stored.document,
        if_match=None,
        token_id="",
        request_id=ORIGIN,
        reply_to=keys.replies(uuid.uuid4().hex),
    )
    async with connections.connect_async(config.redis_url) as client:
        await _append(config, client, tenant, change)
        outcome = await _in_time(client, change, config.apply_wait)
    # The reply itself may have been lost: the change log knows.
    outcome = outcome or await resources.find_outcome(database, tenant, change.accepted_at, change.change_id)
    if outcome is None:
        raise RestorationRefused(
            f"the change was not applied within {config.apply_wait:g} s; it stays queued, and may still be"
        )
    if not outcome.succeeded:
        raise RestorationRefused(f"the user is not restored: {outcome.detail}")
    return outcome


async def _append(
    config: settings.Settings, client: redis.asyncio.Redis, tenant: ids.TenantId, change: records.Change
) -> None:
    try:
        must_wake = await streams.Appender(client, oldest=config.apply_wait).append(tenant, change)
    except streams.Backlogged:
        raise RestorationRefused(
            "earlier changes of the tenant are still waiting, and this one was not queued: try again later"
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
