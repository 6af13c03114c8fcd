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

# The mark of an end is taken back only by whoever set it.
FORGET = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class NotQueued(errors.UsherError):
    """The tenant's stream takes no further change just now; the message says why."""


class NotInTime(errors.UsherError):
    """The change is queued, and nobody knows yet what becomes of it."""


class UnderWay(errors.UsherError):
    """Somebody else has just queued a change for the same end: `change_id`."""

    def __init__(self, change_id: ids.ChangeId) -> None:
        super().__init__(f"the change {change_id} is for the same end")
        self.change_id = change_id


async def submit(
    config: settings.Settings,
    database: databases.Database,
    tenant: ids.TenantId,
    change: records.Change,
    *,
    end: str = "",
) -> records.Outcome:
    """Queue a change and return its outcome once that is committed, whatever it is.

    `end`: what the change is for, if only one may be queued for it: until one has failed, or for as long as
    `keys.REQUEST_LIFE`. Whoever looked before whether the end is reached has to come here within that time.

    Raises:
        NotQueued, NotInTime, UnderWay: see there.
        StoreUnavailable, QueueUnavailable: a backend is away.
    """
    change = dataclasses.replace(change, reply_to=keys.replies(uuid.uuid4().hex))
    mark = keys.fingerprint(tenant, end) if end else ""
    async with connections.connect_async(config.redis_url) as client:
        await _append(config, database, client, tenant, change, mark)
        outcome = await _in_time(client, change, config.apply_wait)
        # The reply itself may have been lost: the change log knows.
        outcome = outcome or await resources.find_outcome(
            database, tenant, change.accepted_at, change.change_id
        )
        if mark and outcome is not None and not outcome.succeeded:
            with contextlib.suppress(errors.QueueUnavailable), connections.wrapped():
                await client.eval(FORGET, 1, mark, str(change.change_id))
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
    mark: str,
) -> None:
    appender = appends.Appender(
        client, functools.partial(inboxes.is_empty, database), oldest=config.apply_wait
    )
    try:
        item = appends.Item(change.encode(), request=mark, mark=str(change.change_id) if mark else "")
        must_wake = await appender.append(tenant, item)
    except appends.Seen as exc:
        raise UnderWay(ids.ChangeId(uuid.UUID(exc.mark))) from None
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
