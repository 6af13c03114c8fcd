"""Taking a deleted tenant's data away, some rows a transaction: the operator's slowest work, done in between.

Invariant: only what a tenant that is marked deleted left behind is taken away, whoever asks and however late;
a call may be repeated after a crash and goes on where the last one ended.
"""

from __future__ import annotations

import dataclasses
import time
from datetime import datetime

from usher_core import ids
from usher_core.store import databases, tenants

FORGET_CHANGE_LOG = "SELECT usher_forget_change_log(%s, %s)"

# What holds a tenant's data, in the order in which a deletion empties it; the change log comes before.
DATA_TABLES = (
    "members", "lookup_values", "unique_values", "resources", "deleted_resources", "totals",
    "inbox", "fences", "schema_requests", "dead_letters",
)  # fmt: skip

DELETE = """
DELETE FROM {table} WHERE tenant = %s
   AND NOT EXISTS (SELECT FROM tenants WHERE tenant = %s AND deleted_at IS NULL)
   AND ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE tenant = %s LIMIT %s)) RETURNING 1
"""
LEFT = "SELECT count(*) FROM (SELECT FROM {table} WHERE tenant = %s LIMIT %s) AS counted"
MOST = 100_000
"""As far as is counted what is left."""

LAST = (
    "DELETE FROM tokens WHERE tenant = %s AND NOT EXISTS "
    "(SELECT FROM tenants WHERE tenant = %s AND deleted_at IS NULL)",
    "DELETE FROM drains WHERE tenant = %s AND NOT EXISTS "
    "(SELECT FROM tenants WHERE tenant = %s AND deleted_at IS NULL)",
    "DELETE FROM tenants WHERE tenant = %s AND tenant = %s AND deleted_at IS NOT NULL",
)


@dataclasses.dataclass(frozen=True, slots=True)
class Progress:
    """How far a removal has come: at which of all steps, and how many rows this one still has."""

    step: int
    steps: int
    table: str
    left: int

    def __str__(self) -> str:
        left = f"more than {MOST:,}" if self.left > MOST else f"{self.left:,}"
        return f"step {self.step} of {self.steps}, {left} rows left in {self.table}"


async def remove_some(
    database: databases.Database, tenant: ids.TenantId, *, seconds: float, batch: int = 5000
) -> Progress | None:
    """Go on with a removal for some seconds, at least one batch; `None` when nothing is left.

    Raises:
        StoreUnavailable: try again.
    """
    until = time.monotonic() + seconds
    tables = ("change_log", *DATA_TABLES)
    for step, table in enumerate(tables, start=1):
        while True:
            if await _remove_batch(database, tenant, table, batch) < batch:
                break
            if time.monotonic() >= until:
                left = LEFT.format(table=table)
                [[(count,)]] = await database.fetch(tenant, (left, (tenant, MOST + 1)))
                return Progress(step, len(tables), table, int(count))
    await database.fetch(tenant, *((statement, (tenant, tenant)) for statement in LAST))
    return None


async def delete_tenant(
    database: databases.Database, tenant: ids.TenantId, at: datetime, *, batch: int = 5000
) -> None:
    """Delete a tenant with all its data, to the end."""
    await tenants.mark_deleted(database, tenant, at)
    while await remove_some(database, tenant, seconds=0, batch=batch) is not None:
        pass


async def _remove_batch(database: databases.Database, tenant: ids.TenantId, table: str, batch: int) -> int:
    if table == "change_log":
        [[(forgotten,)]] = await database.fetch(tenant, (FORGET_CHANGE_LOG, (tenant, batch)))
        return int(forgotten)
    statement = DELETE.format(table=table)
    (rows,) = await database.fetch(tenant, (statement, (tenant, tenant, tenant, batch)))
    return len(rows)
