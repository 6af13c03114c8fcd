"""What a person does with a dead letter: let it be tried again, or give it up for good.

A retry is a new change with the old one's content: the old one has its outcome, 500, in the change log, and
an outcome is for good. It takes its turn at the end of the stream, so it comes after changes that were made
after it, and may undo them: who wants that must say so. The letter stays until its content was applied. Which
letter a change is the retry of stands in its request id, so a retry that was interrupted is found again; of
several at once one is queued.
"""

from __future__ import annotations

import dataclasses
import re
import uuid
from collections.abc import Sequence
from typing import Any, Final

import orjson
import redis.asyncio

from usher_core import errors, ids, settings
from usher_core.changes import policies, records
from usher_core.operations import listings, masks, submissions
from usher_core.store import databases, dead_letters, histories

ORIGIN: Final = "usher dead-letters retry"
DISCARD: Final = "usher dead-letters discard"
"""Stand in the change log where requests have their id; after the first one the letter's own follows."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class RetryRefused(errors.UsherError):
    """The letter was not retried, or in vain, and is kept; the message says why."""


class Settled(RetryRefused):
    """Somebody else retried or discarded the letter meanwhile."""


class WouldOvertake(RetryRefused):
    """Later changes were made to the same resource, which the retry would undo or contradict."""

    def __init__(self, later: Sequence[histories.Entry]) -> None:
        self.later = tuple(later)
        number = len(self.later)
        told = "1 later change concerns" if number == 1 else f"{number} later changes concern"
        super().__init__(
            f"{told} the same resource, and this one would come after: look, then discard it, or retry it"
            " with --force"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Retried:
    """What became of a letter: the change that applied it, and whether that had happened before."""

    change_id: ids.ChangeId
    status: int
    version: int | None
    earlier: bool = False


async def retry(
    config: settings.Settings,
    database: databases.Database,
    client: redis.asyncio.Redis,
    letter: dead_letters.Letter,
    *,
    force: bool,
) -> Retried:
    """Apply what a dead letter holds, wait for the outcome, and remove the letter if it succeeded.

    Raises:
        WouldOvertake: without `force`.
        Settled: it is gone by now.
        RetryRefused: it can't be retried, or was refused, or failed again.
        NotQueued, NotInTime: see `submissions`.
        StoreUnavailable, QueueUnavailable: a backend is away.
    """
    if not letter.is_readable:
        raise RetryRefused("it holds no change that could be applied: look at it, then discard it")
    origin = f"{ORIGIN} {letter.change_id}"
    later, waiting = await _look(database, client, letter)
    for entry in waiting:
        if entry.request_id == origin:
            raise RetryRefused(f"a retry of it waits in the stream already, as {entry.change_id}")
    for entry in later:
        if entry.request_id == origin:
            await dead_letters.remove(database, letter)
            return Retried(entry.change_id, entry.status or 200, entry.version, earlier=True)
    if (later or waiting) and not force:
        raise WouldOvertake([*later, *waiting])
    await _refuse_half_applied(database, letter)
    if await dead_letters.find(database, [letter.tenant], letter.change_id) is None:
        raise Settled("somebody else retried or discarded it meanwhile")
    change = _again(letter.change, origin)
    try:
        outcome = await submissions.submit(config, database, letter.tenant, change, end=origin)
    except submissions.UnderWay as exc:
        return await _leave_to(database, letter, exc.change_id)
    if outcome.succeeded:
        await dead_letters.remove(database, letter)
        return Retried(change.change_id, outcome.status, outcome.version)
    if outcome.status < 500:
        raise RetryRefused(
            f"refused with {outcome.status}: {masks.detail(outcome.detail or '')} Discard it if that is right"
        )
    again = await dead_letters.find(database, [letter.tenant], change.change_id)
    if again is not None:
        await dead_letters.merge(database, letter, again)
    raise RetryRefused(f"it failed again{'' if again is None else f' ({again.reason})'}, and is kept")


def _again(change: records.Change, origin: str) -> records.Change:
    """Make a new change of an old one.

    What the old one promised stays its own: its fences stand until the letter goes, and who was answered 202
    was told 500.
    """
    return dataclasses.replace(
        change,
        change_id=ids.ChangeId(ids.new_uuid()),
        accepted_at=records.now(),
        request_id=origin,
        promised=False,
        told_later=False,
    )


async def _leave_to(
    database: databases.Database, letter: dead_letters.Letter, change_id: ids.ChangeId
) -> Retried:
    """Tell what becomes of a retry that was queued a moment before.

    Raises:
        RetryRefused: nobody knows yet, or it was in vain.
    """
    entry = await histories.find(database, [letter.tenant], change_id)
    if entry is None or entry.status is None:
        raise RetryRefused(f"another retry of it is under way, as {change_id}")
    if entry.status >= 400:
        raise RetryRefused(
            f"another retry of it, {change_id}, has just ended with status {entry.status}: look at that first"
        )
    await dead_letters.remove(database, letter)
    return Retried(change_id, entry.status, entry.version, earlier=True)


async def _refuse_half_applied(database: databases.Database, letter: dead_letters.Letter) -> None:
    # Under a new moment of acceptance nothing would know again the operations that were applied.
    if letter.change.operation != "bulk":
        return
    parts = await histories.parts(database, histories.from_change(letter.tenant, "", letter.change))
    applied = [part for part in parts if part.state == "applied"]
    if applied:
        raise RetryRefused(
            f"{len(applied)} of the bulk's operations were applied: let the provider send what is missing,"
            " then discard it"
        )


async def _look(
    database: databases.Database, client: redis.asyncio.Redis, letter: dead_letters.Letter
) -> tuple[list[histories.Entry], list[histories.Entry]]:
    """Find what was applied after the letter, and what waits, of all that concerns the same resources."""
    change = letter.change
    entry = dataclasses.replace(histories.from_change(letter.tenant, "", change), applied_at=letter.buried_at)
    subject = histories.Subject(frozenset({change.resource_id}))
    if change.operation == "bulk":
        subject = histories.Subject(frozenset(_mentioned(change.body)))
    name = change.body.get("userName") if isinstance(change.body, dict) else None
    if change.resource_type == policies.USERS and isinstance(name, str) and name:
        # Who was made under that name since is the same person, and might be revived by this change.
        holders = await histories.find_subject(database, letter.tenant, name)
        subject = histories.Subject(subject.ids | holders.ids, name)
    members = _mentioned(change.body) if change.resource_type != policies.USERS else set()
    waiting = await listings.waiting_about(
        client, letter.tenant, histories.Subject(subject.ids | members, subject.name)
    )
    return await histories.later(database, entry, subject, members), waiting


def _mentioned(body: Any) -> set[ids.ResourceId]:
    """List the ids in a body, of whatever form it is: a letter may be dead for its form."""
    return {ids.ResourceId(uuid.UUID(found)) for found in _UUID.findall(orjson.dumps(body).decode())}
