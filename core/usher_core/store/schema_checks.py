"""Other schemas against what is stored: the worker's side of a change of a tenant's schemas.

`usher_worker.schema_changes` calls these in its turn, when all later changes of the tenant wait behind it.
Each is one short transaction under the tenant's lock and the drain's epoch, and leaves what it found with how
far it came, so that another worker goes on from there. Values that become unique are put beside the others as
the check goes along: two of them that are the same meet there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from usher_core import ids
from usher_core.changes import records, snapshots
from usher_core.scim import contradictions, documents, schemas
from usher_core.store import batches, schema_requests
from usher_core.store.schema_requests import Contradiction

SLICE = 1000
SMALL_SLICE = 25
FORGOTTEN_AT_ONCE = 5000

LOOK = """
SELECT change_id, state, checked, total, type, id, found, contradictions
  FROM schema_requests WHERE tenant = %s
"""
TOTALS = "SELECT type, total FROM totals WHERE tenant = %s"
NOTE = """
UPDATE schema_requests
   SET state = 'checking', checked = %s, total = %s, type = %s, id = %s, found = %s, contradictions = %s
 WHERE tenant = %s AND change_id = %s
"""
NEXT = """
SELECT id, version, document FROM resources WHERE tenant = %s AND type = %s AND id > %s ORDER BY id LIMIT %s
"""
ADD = """
INSERT INTO unique_values (tenant, type, path, folded, id)
SELECT %s, %s, path, folded, id FROM jsonb_to_recordset(%s) AS v (path text, folded text, id uuid)
    ON CONFLICT (tenant, type, path, folded) DO NOTHING
"""
TAKEN = """
SELECT v.id, v.path, u.id, r.version
  FROM jsonb_to_recordset(%s) AS v (path text, folded text, id uuid)
 CROSS JOIN LATERAL (
     SELECT id FROM unique_values
      WHERE tenant = %s AND type = %s AND path = v.path AND folded = v.folded AND id <> v.id
     OFFSET 0) u
  LEFT JOIN resources r ON r.tenant = %s AND r.type = %s AND r.id = u.id
"""
# One look at the index for each space, however many values are in it.
SPACES = """
WITH RECURSIVE spaces AS (
    (SELECT type, path FROM unique_values WHERE tenant = %(tenant)s ORDER BY type, path LIMIT 1)
    UNION ALL
    SELECT n.type, n.path FROM spaces s CROSS JOIN LATERAL (
        SELECT type, path FROM unique_values
         WHERE tenant = %(tenant)s AND (type, path) > (s.type, s.path) ORDER BY type, path LIMIT 1) n
)
SELECT type, path FROM spaces
"""
FORGET = """
DELETE FROM unique_values
 WHERE tenant = %s AND type = %s AND path = %s AND folded = ANY (ARRAY(
       SELECT folded FROM unique_values WHERE tenant = %s AND type = %s AND path = %s LIMIT %s))
"""
ACCEPT = """
UPDATE tenants
   SET schemas = %s, schemas_version = CASE WHEN %s THEN 0 ELSE
           greatest(schemas_version + 1, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint) END
 WHERE tenant = %s
"""
END = "UPDATE schema_requests SET state = %s WHERE tenant = %s AND change_id = %s"


@dataclasses.dataclass(frozen=True, slots=True)
class Check:
    """How far the check of the last request has come; `type` and `id` name the resource looked at last."""

    change_id: ids.ChangeId
    state: str
    checked: int = 0
    total: int = 0
    type: str | None = None
    id: ids.ResourceId | None = None
    found: int = 0
    listed: tuple[Contradiction, ...] = ()

    def with_found(self, kind: str, more: Sequence[Contradiction], count: int | None = None) -> Check:
        """Add what was found; of more than a few only the count."""
        room = schema_requests.MOST_LISTED - len(self.listed)
        return dataclasses.replace(
            self,
            type=kind,
            found=self.found + (len(more) if count is None else count),
            listed=(*self.listed, *more[:room]),
        )


@dataclasses.dataclass(frozen=True, slots=True)
class Transition:
    """From which schemas to which, and the resource types that must be looked at."""

    before: schemas.Registry
    after: schemas.Registry

    @property
    def kinds(self) -> list[str]:
        """The names of the resource types to look at, in order."""
        return sorted(kind.name for kind in contradictions.affected(self.before, self.after))

    def coming(self, kind: str) -> schemas.ResourceType | None:
        """Find what a resource type becomes; `None` when it would be gone."""
        return next((one for one in self.after.resource_types if one.name == kind), None)

    def added(self, kind: str) -> frozenset[str]:
        """List the spaces whose values become unique."""
        after = self.coming(kind)
        known = documents.unique_spaces(self.before.by_name(kind))
        return frozenset(() if after is None else documents.unique_spaces(after)) - frozenset(known)


def look(connection: batches.Connection, tenant: ids.TenantId, epoch: int) -> Check | None:
    """Read how far the check of the last request has come.

    Raises:
        StoreUnavailable, DrainSuperseded: as for every call here.
    """
    with connection.turn(tenant, epoch) as opened:
        row = opened.execute(LOOK, (tenant,)).fetchone()
    if row is None:
        return None
    change_id, state, checked, total, kind, id_, found, listed = row
    return Check(
        ids.ChangeId(change_id), state, checked, total, kind, id_, found,
        tuple(map(Contradiction.of_row, listed)),
    )  # fmt: skip


def begin(
    connection: batches.Connection, tenant: ids.TenantId, epoch: int, check: Check, transition: Transition
) -> Check:
    """Begin a check: tell how many resources it has to look at."""
    with connection.turn(tenant, epoch) as opened:
        totals = _totals(opened, tenant)
        begun = Check(
            check.change_id, "checking", total=sum(totals.get(kind, 0) for kind in transition.kinds)
        )
        _note(opened, tenant, begun)
    return begun


def go_on(
    connection: batches.Connection,
    tenant: ids.TenantId,
    epoch: int,
    check: Check,
    transition: Transition,
    size: int,
) -> Check | None:
    """Look at the next `size` resources; `None` when none is left."""
    kind, after_id = check.type, check.id
    left = [one for one in transition.kinds if kind is None or one > kind or (one == kind and after_id)]
    if not left:
        return None
    name = left[0]
    start = after_id if name == kind and after_id else snapshots.NO_RESOURCE
    with connection.turn(tenant, epoch) as opened:
        rows = opened.execute(NEXT, (tenant, name, start, size)).fetchall()
        coming = transition.coming(name)
        if coming is None:
            after = _gone(opened, tenant, check, name, rows)
        else:
            after = _looked_at(opened, tenant, check, coming, transition.added(name), rows)
            # A kind without an id is done: the next one follows.
            after = dataclasses.replace(after, id=rows[-1][0] if len(rows) == size else None)
        _note(opened, tenant, after)
    return after


def _gone(
    opened: psycopg.Connection[TupleRow], tenant: ids.TenantId, check: Check, kind: str, rows: list[TupleRow]
) -> Check:
    """Count all resources of a type that would be gone."""
    count = _totals(opened, tenant).get(kind, 0)
    found = [
        Contradiction(kind, str(id_), "", "its resource type would be gone", ((kind, str(id_), version),))
        for id_, version, _ in rows[: schema_requests.MOST_LISTED]
    ]
    return dataclasses.replace(
        check.with_found(kind, found, max(count, len(rows))), checked=check.checked + count, id=None
    )


def _looked_at(
    opened: psycopg.Connection[TupleRow],
    tenant: ids.TenantId,
    check: Check,
    coming: schemas.ResourceType,
    added: frozenset[str],
    rows: list[TupleRow],
) -> Check:
    kind = coming.name
    versions = {id_: version for id_, version, _ in rows}
    found: list[Contradiction] = []
    values: list[dict[str, str]] = []
    for id_, version, document in rows:
        against = contradictions.find(coming, document)
        involved = ((kind, str(id_), version),)
        found += [Contradiction(kind, str(id_), one.attribute, one.reason, involved) for one in against]
        if added and not against:
            values += [
                {"path": space, "folded": folded, "id": str(id_)}
                for space, folded in documents.unique_values(coming, document)
                if space in added
            ]
    if values:
        opened.execute(ADD, (tenant, kind, Jsonb(values)))
        taken = opened.execute(TAKEN, (Jsonb(values), tenant, kind, tenant, kind)).fetchall()
        for id_, space, other, version in taken:
            both = ((kind, str(id_), versions[id_]), (kind, str(other), version))
            reason = f"is the same as that of {other}, and must be unique"
            found.append(Contradiction(kind, str(id_), documents.path_of_space(space), reason, both))
    return dataclasses.replace(check.with_found(kind, found), checked=check.checked + len(rows))


def _totals(opened: psycopg.Connection[TupleRow], tenant: ids.TenantId) -> dict[str, int]:
    return {kind: total for kind, total in opened.execute(TOTALS, (tenant,)).fetchall()}  # noqa: C416


def _note(opened: psycopg.Connection[TupleRow], tenant: ids.TenantId, check: Check) -> None:
    listed = Jsonb([one.to_row() for one in check.listed])
    values = (check.checked, check.total, check.type, check.id, check.found, listed, tenant, check.change_id)
    opened.execute(NOTE, values)


def forget_others(
    connection: batches.Connection, tenant: ids.TenantId, epoch: int, registry: schemas.Registry
) -> bool:
    """Take out some of the values that need not be unique under a registry; tells whether any were left."""
    kept = {(kind.name, space) for kind in registry.resource_types for space in documents.unique_spaces(kind)}
    with connection.turn(tenant, epoch) as opened:
        spaces = opened.execute(SPACES, {"tenant": tenant}).fetchall()
        for kind, space in spaces:
            if (kind, space) not in kept:
                key = (tenant, kind, space)
                opened.execute(FORGET, (*key, *key, FORGOTTEN_AT_ONCE))
                return True
    return False


def accept(
    connection: batches.Connection, tenant: ids.TenantId, epoch: int, entry: batches.Entry
) -> records.Outcome:
    """Let the schemas of a change hold from now on."""
    change = entry[1]
    return connection.conclude(
        tenant,
        epoch,
        entry,
        records.Outcome(change.change_id, 200),
        (ACCEPT, (Jsonb(change.body), not change.body, tenant)),
        (END, ("accepted", tenant, change.change_id)),
    )


def refuse(
    connection: batches.Connection, tenant: ids.TenantId, epoch: int, entry: batches.Entry, detail: str
) -> records.Outcome:
    """Leave the schemas as they are."""
    change_id = entry[1].change_id
    outcome = records.Outcome(change_id, 409, detail=detail)
    return connection.conclude(tenant, epoch, entry, outcome, (END, ("refused", tenant, change_id)))


def supersede(
    connection: batches.Connection, tenant: ids.TenantId, epoch: int, entry: batches.Entry
) -> records.Outcome:
    """Drop a request, for there is a later one."""
    detail = "Other schemas have been asked for since."
    outcome = records.Outcome(entry[1].change_id, 409, detail=detail)
    return connection.conclude(tenant, epoch, entry, outcome)
