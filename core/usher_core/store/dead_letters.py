"""Reading and settling dead letters: changes that were given up; `usher dead-letters` and `usher queue` ask.

The drain writes them (`batches.Connection.bury`). One leaves the table only when what it holds was applied
after all, or when a person gives it up for good.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import uuid
from collections.abc import Sequence
from typing import Any, Final

import orjson
from psycopg.types.json import Jsonb

from usher_core import errors, ids
from usher_core.changes import bulks, events, records, revocations
from usher_core.store import databases, histories, inboxes

UNREADABLE: Final = "Unreadable"
"""The reason of a letter whose entry in the stream was no change."""

COLUMNS = """
d.tenant, d.accepted_at, d.change_id, d.change, d.reason, d.traceback, d.attempts,
coalesce(l.applied_at, d.failed_at), d.failed_at
"""
JOINED = """
dead_letters d LEFT JOIN change_log l
    ON l.tenant = d.tenant AND l.accepted_at = d.accepted_at AND l.change_id = d.change_id
"""
LIST = f"SELECT {COLUMNS} FROM {JOINED} WHERE d.tenant = %s ORDER BY d.accepted_at, d.change_id"  # noqa: S608 - columns of ours
FIND = f"SELECT {COLUMNS} FROM {JOINED} WHERE d.tenant = %s AND d.change_id = %s"  # noqa: S608
COUNT = "SELECT count(*) FROM dead_letters WHERE tenant = %s"
KEY = "tenant = %s AND accepted_at = %s AND change_id = %s"
REMOVE = f"DELETE FROM dead_letters WHERE {KEY} RETURNING change_id"  # noqa: S608
# Of a revocation that was given up: what it takes away has read as taken away until now.
LIFT = """
DELETE FROM fences WHERE tenant = %s AND change_id = ANY(%s) RETURNING subject, group_id, change_id
"""
EVENTS = "SELECT usher_write_events(%s, clock_timestamp(), %s)"
MERGE = f"""
UPDATE dead_letters d
   SET reason = n.reason, traceback = n.traceback, attempts = d.attempts + n.attempts,
       failed_at = n.failed_at
  FROM dead_letters n
 WHERE d.{KEY.replace(" AND ", " AND d.")} AND n.{KEY.replace(" AND ", " AND n.")}
"""  # noqa: S608


@dataclasses.dataclass(frozen=True, slots=True)
class Letter:
    """A change that was given up, with why; `failed_at` is its last failure.

    `buried_at` is the moment at which the log says it was given up: its place among other changes.
    """

    tenant: ids.TenantId
    accepted_at: datetime.datetime
    change_id: ids.ChangeId
    content: Any
    reason: str
    traceback: str
    attempts: int
    buried_at: datetime.datetime
    failed_at: datetime.datetime

    @property
    def first_failed_at(self) -> datetime.datetime:
        """When it was given up for the first time."""
        return min(self.buried_at, self.failed_at)  # two clocks, of which the worker's was read first

    @property
    def is_readable(self) -> bool:
        """Whether it holds a change at all."""
        return self.reason != UNREADABLE

    @property
    def change(self) -> records.Change:
        """The change as it was; of an unreadable letter what stands in for it.

        Raises:
            ConfigurationInvalid: it was written by a version whose changes were of another form.
        """
        try:
            return records.Change.decode(orjson.dumps(self.content))
        except ValueError as exc:
            raise errors.ConfigurationInvalid(
                f"the dead letter {self.change_id} was written by another version of Usher, in another form"
            ) from exc


async def list_letters(database: databases.Database, tenants: Sequence[ids.TenantId]) -> list[Letter]:
    """List the dead letters of these tenants, the oldest first."""
    answers = await histories.fetch_each(database, {tenant: (LIST, (tenant,)) for tenant in tenants})
    found = [Letter(*row) for rows in answers.values() for row in rows]
    return sorted(found, key=lambda letter: (letter.accepted_at, letter.change_id))


async def find(
    database: databases.Database, tenants: Sequence[ids.TenantId], change_id: ids.ChangeId
) -> Letter | None:
    """Find the dead letter of a change, whichever of the tenants it is of."""
    statements = {tenant: (FIND, (tenant, change_id)) for tenant in tenants}
    answers = await histories.fetch_each(database, statements)
    return next((Letter(*row) for rows in answers.values() for row in rows), None)


async def count(database: databases.Database, tenants: Sequence[ids.TenantId]) -> dict[ids.TenantId, int]:
    """Count the dead letters of each tenant."""
    answers = await histories.fetch_each(database, {tenant: (COUNT, (tenant,)) for tenant in tenants})
    return {tenant: int(rows[0][0]) for tenant, rows in answers.items()}


async def remove(database: databases.Database, letter: Letter) -> bool:
    """Remove a letter whose change was applied after all; `False` when it is gone already."""
    rows, _ = await database.fetch(letter.tenant, (REMOVE, _key(letter)), _lifted(letter))
    return bool(rows)


async def discard(database: databases.Database, letter: Letter, request_id: str) -> bool:
    """Remove a letter for good and say so in the change log, both or neither; `False` when it is gone.

    What a revocation took away from its acceptance on is given back, and an event says so.
    """
    entry = histories.from_change(letter.tenant, "", letter.change)
    detail = f"The dead letter of the change {letter.change_id} was discarded ({letter.reason})."
    noted = histories.note(letter.tenant, records.now(), entry, "discard", request_id, detail)
    async with database.transaction(letter.tenant) as connection:
        cursor = await connection.execute(REMOVE, _key(letter))
        if not await cursor.fetchall():
            return False
        for text, values in noted:
            await connection.execute(text.encode(), values)
        lifted = await connection.execute(LIFT.encode(), _settled(letter))
        given_back = [_given_back(*row) for row in await lifted.fetchall()]
        # The note before has taken the tenant's lock, under which events get their numbers.
        await connection.execute(EVENTS.encode(), (letter.tenant, Jsonb(given_back)))
    return True


async def merge(database: databases.Database, letter: Letter, again: Letter) -> None:
    """Let a letter that failed again count its new attempts, and take the newer letter away."""
    await database.fetch(letter.tenant, (MERGE, (*_key(letter), *_key(again))), (REMOVE, _key(again)))


def _key(letter: Letter) -> tuple[ids.TenantId, datetime.datetime, ids.ChangeId]:
    return letter.tenant, letter.accepted_at, letter.change_id


def _given_back(subject: uuid.UUID, group: uuid.UUID, change_id: uuid.UUID) -> dict[str, Any]:
    """Tell of a fence that it fell without its change taking effect."""
    fence = revocations.Fence(
        ids.ResourceId(subject), ids.ResourceId(group) if group != inboxes.NOBODY else None
    )
    return events.of_fence(ids.ChangeId(change_id), fence, "unrevoke").to_row()


def _lifted(letter: Letter) -> databases.Statement:
    """Make the statement that lifts the fences of the change of a letter, and of the operations of a bulk."""
    return LIFT, _settled(letter)


def _settled(letter: Letter) -> tuple[ids.TenantId, list[ids.ChangeId]]:
    change = letter.change
    settled = [letter.change_id]
    if change.operation == "bulk":
        with contextlib.suppress(ValueError):
            settled += [part.change_id for part in bulks.changes_of(bulks.unpack(change).steps)]
    return letter.tenant, settled
