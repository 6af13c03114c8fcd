"""Looking into a tenant's stream without touching it: what was accepted and is not applied yet.

What stands there may be applied at the next moment, or have been already: between its commit and its removal
a change is in both places, so callers ask the log what it knows.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import AsyncIterator
from typing import Any

import orjson
import redis.asyncio

from usher_core import ids
from usher_core.changes import policies, records
from usher_core.queues import connections, keys
from usher_core.store import histories

PAGE = 500


async def newest_first(client: redis.asyncio.Redis, tenant: ids.TenantId) -> AsyncIterator[histories.Entry]:
    """Read the stream from its end; an entry that is no change is shown as what it is.

    Raises:
        QueueUnavailable: Valkey is away.
    """
    until = "+"
    while True:
        found = await _read(client, "XREVRANGE", tenant, until, "-", PAGE)
        for position, data in found:
            yield _entry(tenant, position, data)
        if len(found) < PAGE:
            return
        until = f"({found[-1][0]}"


async def oldest(client: redis.asyncio.Redis, tenant: ids.TenantId) -> histories.Entry | None:
    """Read the head of the stream: what is applied next.

    Raises:
        QueueUnavailable: Valkey is away.
    """
    found = await _read(client, "XRANGE", tenant, "-", "+", 1)
    return _entry(tenant, *found[0]) if found else None


async def count_before(client: redis.asyncio.Redis, entry: histories.Entry) -> int:
    """Count what is applied before a change that waits.

    Raises:
        QueueUnavailable: Valkey is away.
    """
    before, begin = 0, "-"
    while True:
        found = await _read(client, "XRANGE", entry.tenant, begin, f"({entry.stream_id}", PAGE)
        before += len(found)
        if len(found) < PAGE:
            return before
        begin = f"({found[-1][0]}"


def matches(entry: histories.Entry, selection: histories.Selection) -> bool:
    """Tell whether a waiting change is selected, as the log's own statement would."""
    wanted = selection.states
    return (
        (not wanted or "pending" in wanted)
        and selection.since <= entry.accepted_at < selection.until
        and (selection.before is None or (entry.accepted_at, entry.change_id) < selection.before)
        and (selection.resource is None or entry.resource_id == selection.resource)
        and (selection.tokens is None or entry.token_id in selection.tokens)
        and (selection.subject is None or is_about(entry, selection.subject))
    )


def is_about(entry: histories.Entry, subject: histories.Subject) -> bool:
    """Tell whether a change concerns one of these resources."""
    if entry.resource_id in subject.ids:
        return True
    if entry.resource_type != policies.USERS:
        text = orjson.dumps(entry.body).decode()
        return any(str(one) in text for one in subject.ids)
    if subject.name is None or not isinstance(entry.body, dict):
        return False
    name = entry.body.get("userName")
    folded = histories.fold_name(subject.name)
    return entry.body.get("externalId") == subject.name or (
        isinstance(name, str) and histories.fold_name(name) == folded
    )


async def _read(
    client: redis.asyncio.Redis, command: str, tenant: ids.TenantId, begin: str, end: str, count: int
) -> list[tuple[str, bytes]]:
    with connections.wrapped():
        found: Any = await client.execute_command(  # type: ignore[no-untyped-call]
            command, keys.changes(tenant), begin, end, "COUNT", count
        )
    return [(position.decode(), fields.get(b"c", b"")) for position, fields in found or ()]


def _entry(tenant: ids.TenantId, position: str, data: bytes) -> histories.Entry:
    try:
        return histories.from_change(tenant, position, records.Change.decode(data))
    except ValueError:
        moment = records.EPOCH + datetime.timedelta(milliseconds=int(position.partition("-")[0]))
        nobody = uuid.UUID(int=0)
        return histories.Entry(
            tenant, moment, ids.ChangeId(nobody), position, "unreadable", "", ids.ResourceId(nobody), "", ""
        )
