"""Reading what is left of deleted users while they can be restored; `usher users` asks here.

The drain writes these rows with the deletion, and takes them away with the restoration; the sweep purges
what is older than its tenant keeps it.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any

from usher_core import ids
from usher_core.changes import policies, snapshots
from usher_core.store import databases

COLUMNS = "type, id, version, document, created_at, modified_at, deleted_at"
LIST = f"""
SELECT {COLUMNS} FROM deleted_resources WHERE tenant = %s AND type = %s ORDER BY deleted_at DESC, id
"""  # noqa: S608 - columns of ours
FIND = f"SELECT {COLUMNS} FROM deleted_resources WHERE tenant = %s AND type = %s AND id = %s"  # noqa: S608
TENANT = "SELECT tenant FROM usher_tenants() WHERE namespace = %s AND name = %s AND deleted_at IS NULL"
CONFIG = "SELECT config FROM tenants WHERE tenant = %s"


@dataclasses.dataclass(frozen=True, slots=True)
class Deletion:
    """A user as it was when it was deleted, and when that was."""

    stored: snapshots.Stored
    deleted_at: datetime.datetime


async def list_users(database: databases.Database, tenant: ids.TenantId) -> list[Deletion]:
    """List the deleted users that can be restored, the one deleted last first."""
    [rows] = await database.fetch(tenant, (LIST, (tenant, policies.USERS)))
    return [_deletion(row) for row in rows]


async def find_user(
    database: databases.Database, tenant: ids.TenantId, user: ids.ResourceId
) -> Deletion | None:
    """Find one deleted user that can be restored."""
    [rows] = await database.fetch(tenant, (FIND, (tenant, policies.USERS, user)))
    return _deletion(rows[0]) if rows else None


async def find_tenant(
    database: databases.Database, namespace: str, name: str
) -> tuple[ids.TenantId, Mapping[str, Any]] | None:
    """Find a living tenant by the names of its manifest, with its configuration."""
    [rows] = await database.fetch(None, (TENANT, (namespace, name)))
    if not rows:
        return None
    tenant = ids.TenantId(rows[0][0])
    [configs] = await database.fetch(tenant, (CONFIG, (tenant,)))
    return (tenant, configs[0][0]) if configs else None


def _deletion(row: tuple[Any, ...]) -> Deletion:
    return Deletion(snapshots.Stored(*row[:6]), row[6])
