"""Reading resources: one, or a page of those that a filter matches, with what is stored apart.

What is read is the effective state: what a fence takes away reads as taken away (`revocations`).
Everything a page needs comes in one transaction and one round trip. A page by index counts off all that is
before it; a page by position begins there, however far down that is.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from usher_core import ids
from usher_core.changes import records, snapshots
from usher_core.scim import schemas
from usher_core.store import cursors, databases, nestings, orders
from usher_core.store.expressions import Expression, conjunction

# A user's groups are computed (RFC 7643 §4.1.2), never stored; a group's members are rows. Which groups are
# direct goes without saying: a page of users has thousands of them, and few that are not.
GROUPS = f"""(
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'value', g.id, 'display', g.document -> 'displayName') ORDER BY g.id), '[]')
      FROM effective_members m
      JOIN resources g ON g.tenant = m.tenant AND g.type = 'Group' AND g.id = m.group_id
     WHERE m.tenant = r.tenant AND m.member_id = r.id) || CASE WHEN {nestings.ARE_THERE} THEN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'value', i.id, 'display', g.display, 'type', 'indirect') ORDER BY i.id), '[]')
      FROM {nestings.INDIRECT} AS i
     CROSS JOIN LATERAL (
           SELECT g.document -> 'displayName' AS display FROM resources g
            WHERE g.tenant = r.tenant AND g.type = 'Group' AND g.id = i.id
           OFFSET 0) g) ELSE '[]' END"""  # noqa: S608 - built of constants
MEMBERS = """(
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'value', m.member_id, 'type', m.member_type, 'display', m.display) ORDER BY m.member_id), '[]')
      FROM effective_members m
     WHERE m.tenant = r.tenant AND m.group_id = r.id)"""
COLUMNS = "r.type, r.id, r.version, r.document, r.created_at, r.modified_at, {groups}, {members}, r.fenced"
ONE = "SELECT {columns} FROM effective_resources r WHERE r.tenant = %s AND r.type = %s AND r.id = %s"
PAGE = (
    "SELECT {columns}, {key} FROM {source} WHERE r.tenant = %s AND {condition}"
    " ORDER BY {order} LIMIT %s OFFSET %s"
)
COUNT = "SELECT count(*) FROM effective_resources r WHERE r.tenant = %s AND {condition}"
TOTAL = "SELECT coalesce(sum(total), 0)::bigint FROM totals WHERE tenant = %s AND type = ANY(%s)"
_LOGGED = """
SELECT l.status, l.scim_type, l.detail, {version}, r.created_at, r.modified_at, r.document,
       l.resource_id{more}
  FROM change_log l
  LEFT JOIN effective_resources r
         ON r.tenant = l.tenant AND r.type = l.resource_type AND r.id = l.resource_id
 WHERE l.tenant = %s AND l.accepted_at = %s AND l.change_id = %s
"""
# The document is today's, so the version must be too.
LOGGED = _LOGGED.format(version="coalesce(r.version, l.version)", more="")
LOGGED_EARLIER = _LOGGED.format(version="l.version", more=", l.applied_at, r.version, r.fenced")

LOGGED_OF_BULK = """
SELECT change_id, status, scim_type, detail, version, resource_id
  FROM change_log WHERE tenant = %s AND accepted_at = %s AND (bulk_id = %s OR change_id = %s)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """A resource as it counts, with what was asked for of its relations; `None` for what was not.

    `fenced`: something of it reads as taken away already, so that its version does not say all.
    """

    stored: snapshots.Stored
    groups: list[dict[str, Any]] | None
    members: list[dict[str, Any]] | None
    fenced: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Relations:
    """Which relations a reader wants to see."""

    groups: bool
    members: bool

    @property
    def columns(self) -> str:
        """The columns to select."""
        return COLUMNS.format(
            groups=GROUPS if self.groups else "NULL", members=MEMBERS if self.members else "NULL"
        )


async def find(
    database: databases.Database,
    tenant: ids.TenantId,
    resource_type: schemas.ResourceType,
    resource_id: ids.ResourceId,
    relations: Relations,
) -> Resource | None:
    """Read one resource."""
    statement = ONE.format(columns=relations.columns)
    [rows] = await database.fetch(tenant, (statement, (tenant, resource_type.name, resource_id)))
    return _resource(rows[0]) if rows else None


@dataclasses.dataclass(frozen=True, slots=True)
class Query:
    """Which resources to read, in which order, and what of them; no `condition` selects all of the types."""

    types: tuple[str, ...]
    condition: Expression
    is_filtered: bool
    relations: Relations
    order: orders.Order = orders.BY_ID


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """Resources in the order of the query, each with its position, and how many match in all.

    `more`: there are others beyond the page, in the direction in which it was read.
    """

    resources: list[Resource]
    positions: list[orders.Position]
    total: int
    more: bool = False


async def page(
    database: databases.Database, tenant: ids.TenantId, query: Query, *, offset: int, limit: int
) -> Page:
    """Read a page by index; `offset` counts from 0."""
    return await _read(database, tenant, query, query.condition, query.order.by(), limit, offset)


async def page_from(
    database: databases.Database,
    tenant: ids.TenantId,
    query: Query,
    cursor: cursors.Cursor | None,
    limit: int,
) -> Page:
    """Read the page that begins at a cursor, or the first one; its cost does not depend on where that is."""
    condition, backward = query.condition, False
    if cursor is not None:
        backward = cursor.backward
        condition = conjunction(condition, query.order.after(cursor.position, backward=backward))
    # One more than asked for tells whether there is another page.
    read = await _read(
        database, tenant, query, condition, query.order.by(backward=backward), limit + 1, offset=0
    )
    found = list(zip(read.resources, read.positions, strict=True))[:limit]
    if backward:
        found.reverse()
    more = len(read.resources) > limit
    return Page([one for one, _ in found], [position for _, position in found], read.total, more)


async def _read(
    database: databases.Database,
    tenant: ids.TenantId,
    query: Query,
    condition: Expression,
    order: str,
    limit: int,
    offset: int,
) -> Page:
    counted, rows = await database.fetch(
        tenant, _count(tenant, query), statement(tenant, query, condition, order, limit, offset)
    )
    positions = [orders.Position(row[0], row[1], row[-1]) for row in rows]
    return Page([_resource(row) for row in rows], positions, int(counted[0][0]))


def _count(tenant: ids.TenantId, query: Query) -> databases.Statement:
    if not query.is_filtered:  # the drain keeps counters
        return TOTAL, (tenant, list(query.types))
    return COUNT.format(condition=query.condition.text), (tenant, *query.condition.values)


def statement(
    tenant: ids.TenantId, query: Query, condition: Expression, order: str, limit: int, offset: int
) -> databases.Statement:
    """Make the statement that reads a page."""
    source = query.order.source
    text = PAGE.format(
        columns=query.relations.columns,
        key=query.order.shown_key,
        source=source.text,
        condition=condition.text,
        order=order,
    )
    return text, (*source.values, tenant, *condition.values, limit, offset)


async def find_outcome(
    database: databases.Database,
    tenant: ids.TenantId,
    accepted_at: datetime.datetime,
    change_id: ids.ChangeId,
) -> records.Outcome | None:
    """Read what became of a change from the change log; `None` while it is not applied."""
    [rows] = await database.fetch(tenant, (LOGGED, (tenant, accepted_at, change_id)))
    if not rows:
        return None
    return records.Outcome(change_id, *rows[0])


@dataclasses.dataclass(frozen=True, slots=True)
class Earlier:
    """What became of a change, when, and its resource's version now; `None` for one that is away.

    `fenced`: something of it reads as taken away by now.
    """

    outcome: records.Outcome
    applied_at: datetime.datetime
    version_now: int | None
    fenced: bool


async def find_earlier(
    database: databases.Database,
    tenant: ids.TenantId,
    accepted_at: datetime.datetime,
    change_id: ids.ChangeId,
) -> Earlier | None:
    """Read what became of a change and where its resource stands now; `None` while it is not applied."""
    [rows] = await database.fetch(tenant, (LOGGED_EARLIER, (tenant, accepted_at, change_id)))
    if not rows:
        return None
    *told, applied_at, version_now, fenced = rows[0]
    return Earlier(records.Outcome(change_id, *told), applied_at, version_now, bool(fenced))


async def find_bulk_outcomes(
    database: databases.Database,
    tenant: ids.TenantId,
    accepted_at: datetime.datetime,
    change_id: ids.ChangeId,
) -> dict[ids.ChangeId, records.Outcome]:
    """Read what became of a bulk and its operations so far from the change log."""
    [rows] = await database.fetch(tenant, (LOGGED_OF_BULK, (tenant, accepted_at, change_id, change_id)))
    return {
        key: records.Outcome(key, status, scim_type, detail, version, resource_id=about)
        for key, status, scim_type, detail, version, about in rows
    }


def _resource(row: tuple[Any, ...]) -> Resource:
    return Resource(snapshots.Stored(*row[:6]), row[6], row[7], row[8])
