"""The members of a group that the filter of a PATCH path selects, asked of the store under the tenant's lock.

`batches` asks, along with the rest of what a batch must know. Only those selected are read, and how much is
looked at and selected for one change has limits: while a worker works, its tenant waits.
"""

from __future__ import annotations

from typing import Final

from usher_core import ids
from usher_core.changes import snapshots
from usher_core.scim import schemas
from usher_core.store import databases, places, predicates
from usher_core.store.expressions import Expression

# The members of the group, times the comparisons with each. They take about a second.
MAX_COMPARISONS: Final = 400_000
# More would keep the worker busy for so long that PostgreSQL believes it to be gone.
MAX_SELECTED: Final = 20_000

SELECTED = """
SELECT CASE WHEN cardinality(s.ids) < %s THEN s.ids END
  FROM (SELECT CASE WHEN {few} THEN ARRAY(
               SELECT {position} FROM {source} WHERE {condition} LIMIT %s) END AS ids) s
"""
FEW = """
    (SELECT count(*) FROM (
        SELECT FROM members m WHERE m.tenant = %s AND m.group_id = %s LIMIT %s) m) < %s"""


def statement(
    tenant: ids.TenantId, registry: schemas.Registry, selection: snapshots.Selection
) -> databases.Statement:
    """Make the statement that answers with the ids of the members, or NULL where that would be too much."""
    kind, wanted = registry.by_name(selection.type), selection.filter
    only = predicates.required_id(wanted)
    members = places.of_held_members(tenant, selection.group, only)
    condition = predicates.compile_inside(tenant, kind, wanted, members.place)
    few = Expression("true")
    if only is None:
        beyond = MAX_COMPARISONS // selection.comparisons + 1
        few = Expression(FEW, (tenant, selection.group, beyond, beyond))
    text = SELECTED.format(
        few=few.text, position=members.position, source=members.source.text, condition=condition.text
    )
    limit = MAX_SELECTED // selection.filters + 1
    return text, (limit, *few.values, *members.source.values, *condition.values, limit)
