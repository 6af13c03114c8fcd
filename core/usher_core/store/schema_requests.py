"""What is asked for of a tenant's schemas, and how that stands; the operator's side of their change.

`usher_core.tenants.definitions` asks here. A request is a change on the tenant's stream, promised like every
change that must not be lost with the queue, and a row that tells how far its check has come;
`schema_checks` is the worker's side. Of several requests the last one counts.
"""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal

import orjson
from psycopg.types.json import Jsonb

from usher_core import errors, ids
from usher_core.changes import records
from usher_core.store import databases, inboxes

State = Literal["queued", "checking", "accepted", "refused", "failed"]
"""`failed`: the change became a dead letter."""

MOST_LISTED: Final = 20
"""Contradictions that are kept of those that were found."""

FIND = """
SELECT t.schemas, r.digest, r.change_id, r.accepted_at,
       CASE WHEN l.status = 500 THEN 'failed' ELSE r.state END, r.checked, r.total, r.found, r.contradictions
  FROM tenants t
  LEFT JOIN schema_requests r ON r.tenant = t.tenant
  LEFT JOIN change_log l
         ON l.tenant = r.tenant AND l.accepted_at = r.accepted_at AND l.change_id = r.change_id
 WHERE t.tenant = %s
"""
PUT = """
INSERT INTO schema_requests (tenant, digest, change_id, accepted_at) VALUES (%s, %s, %s, %s)
ON CONFLICT (tenant) DO UPDATE
   SET digest = excluded.digest, change_id = excluded.change_id, accepted_at = excluded.accepted_at,
       state = 'queued', checked = 0, total = 0, type = NULL, id = NULL, found = 0, contradictions = '[]'
"""
UNCHANGED = """
SELECT r.id, r.version
  FROM jsonb_to_recordset(%s) AS n (type text, id uuid, version bigint)
  JOIN resources r ON r.tenant = %s AND r.type = n.type AND r.id = n.id AND r.version = n.version
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Contradiction:
    """What of the stored stands against the schemas that were asked for; no value of it.

    `involved` lists the resources whose change may end it: type, id, version.
    """

    type: str
    id: str
    attribute: str
    reason: str
    involved: tuple[tuple[str, str, int], ...] = ()

    def to_row(self) -> dict[str, Any]:
        """Write it as JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Contradiction:
        """Read what `to_row` wrote."""
        involved = tuple((kind, id_, version) for kind, id_, version in row["involved"])
        return cls(row["type"], row["id"], row["attribute"], row["reason"], involved)


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """The last request, as far as it has come."""

    digest: str
    change_id: ids.ChangeId
    accepted_at: datetime.datetime
    state: State
    checked: int
    total: int
    found: int
    contradictions: tuple[Contradiction, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """The digest of the schemas that hold, and the last request, if there ever was one."""

    accepted: str
    request: Request | None


def digest_of(documents: Sequence[Any]) -> str:
    """Make what tells schemas in their canonical form from others."""
    return hashlib.sha256(orjson.dumps(documents, option=orjson.OPT_SORT_KEYS)).hexdigest()


async def find(database: databases.Database, tenant: ids.TenantId) -> Standing:
    """Look up how the schemas of a tenant stand."""
    [rows] = await database.fetch(tenant, (FIND, (tenant,)))
    if not rows:
        raise errors.TenantGone(f"tenant {tenant}")
    documents, digest, change_id, accepted_at, state, checked, total, found, contradictions = rows[0]
    request = None
    if digest is not None:
        listed = tuple(map(Contradiction.of_row, contradictions))
        request = Request(digest, ids.ChangeId(change_id), accepted_at, state, checked, total, found, listed)
    return Standing(digest_of(documents), request)


async def put(database: databases.Database, tenant: ids.TenantId, change: records.Change) -> None:
    """Ask for the schemas that a change brings, in the place of those that were asked for before.

    Raises:
        StoreUnavailable: PostgreSQL is away; whether it was asked is not known, and may be asked again.
        TenantGone: there is no such tenant any more.
    """
    row = (tenant, digest_of(change.body), change.change_id, change.accepted_at)
    nothing = Jsonb([])
    promise = (tenant, change.change_id, change.accepted_at, change.encode(), nothing, nothing)
    _, [(number,)] = await database.fetch(tenant, (PUT, row), (inboxes.ACCEPT, promise))
    if number is None:
        raise errors.TenantGone(f"tenant {tenant}")


async def any_stands(
    database: databases.Database, tenant: ids.TenantId, contradictions: Iterable[Contradiction]
) -> bool:
    """Tell whether some of the contradictions can't have ended: nothing that is involved has changed."""
    listed = list(contradictions)
    keys = {one for contradiction in listed for one in contradiction.involved}
    asked = Jsonb([{"type": kind, "id": id_, "version": version} for kind, id_, version in keys])
    [rows] = await database.fetch(tenant, (UNCHANGED, (asked, tenant)))
    same = {(id_, version) for id_, version in rows}
    return any(
        all((uuid.UUID(id_), version) in same for _, id_, version in contradiction.involved)
        for contradiction in listed
    )
