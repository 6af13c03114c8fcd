"""Reading resources: one, or a page of those that a filter matches, with what is stored apart.

Everything a page needs comes in one transaction and one round trip.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from usher_core import ids
from usher_core.changes import records, snapshots
from usher_core.scim import schemas
from usher_core.store import databases, predicates

# A user's groups are computed (RFC 7643 §4.1.2), never stored; a group's members are rows.
GROUPS = """(
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'value', g.id, 'display', g.document -> 'displayName') ORDER BY g.id), '[]')
      FROM members m JOIN resources g ON g.tenant = m.tenant AND g.type = 'Group' AND g.id = m.group_id
     WHERE m.tenant = r.tenant AND m.member_id = r.id)"""
MEMBERS = """(
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'value', m.member_id, 'type', m.member_type, 'display', m.display) ORDER BY m.member_id), '[]')
      FROM members m
     WHERE m.tenant = r.tenant AND m.group_id = r.id)"""
COLUMNS = "r.type, r.id, r.version, r.document, r.created_at, r.modified_at, {groups}, {members}"
ONE = "SELECT {columns} FROM resources r WHERE r.tenant = %s AND r.type = %s AND r.id = %s"
PAGE = (
    "SELECT {columns} FROM resources r WHERE r.tenant = %s AND r.type = %s AND {condition}"
    " ORDER BY r.id LIMIT %s OFFSET %s"
)
COUNT = "SELECT count(*) FROM resources r WHERE r.tenant = %s AND r.type = %s AND {condition}"
TOTAL = "SELECT coalesce(sum(total), 0)::bigint FROM totals WHERE tenant = %s AND type = %s"
LOGGED = """
SELECT l.status, l.scim_type, l.detail, l.version, r.created_at, r.modified_at, r.document
  FROM change_log l
  LEFT JOIN resources r ON r.tenant = l.tenant AND r.type = l.resource_type AND r.id = l.resource_id
 WHERE l.tenant = %s AND l.accepted_at = %s AND l.change_id = %s
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Resource:
    """A stored resource with what was asked for of its relations; `None` for what was not."""

    stored: snapshots.Stored
    groups: list[dict[str, Any]] | None
    members: list[dict[str, Any]] | None


@dataclasses.dataclass(frozen=True, slots=True)
class Page:
    """A page of resources in the order of their creation, and how many match in all."""

    resources: list[Resource]
    total: int


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


async def page(
    database: databases.Database,
    tenant: ids.TenantId,
    resource_type: schemas.ResourceType,
    condition: predicates.Predicate | None,
    relations: Relations,
    *,
    offset: int,
    limit: int,
) -> Page:
    """Read a page; `offset` counts from 0. The total of an unfiltered list is a counter."""
    key = (tenant, resource_type.name)
    text = "true" if condition is None else condition.text
    values = () if condition is None else condition.values
    count = (TOTAL, key) if condition is None else (COUNT.format(condition=text), (*key, *values))
    statement = PAGE.format(columns=relations.columns, condition=text)
    counted, rows = await database.fetch(tenant, count, (statement, (*key, *values, limit, offset)))
    return Page([_resource(row) for row in rows], int(counted[0][0]))


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


def _resource(row: tuple[Any, ...]) -> Resource:
    return Resource(snapshots.Stored(*row[:6]), row[6], row[7])
