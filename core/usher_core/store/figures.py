"""The figures of tenants' statuses, by a few look-ups in indexes and counters for each tenant.

The operator asks for those of all tenants at once, and for a single one's when it looks at a tenant.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import datetime

from usher_core import ids
from usher_core.store import databases

ALL = "SELECT tenant, users, groups, dead_letters, last_change, used FROM usher_figures(%s)"


@dataclasses.dataclass(frozen=True, slots=True)
class Figures:
    """What a tenant holds and what happened to it; `used` tells when each token was last seen in use."""

    users: int
    groups: int
    dead_letters: int
    last_change: datetime | None
    used: Mapping[str, datetime]


NONE = Figures(0, 0, 0, None, {})


async def find_all(database: databases.Database) -> dict[ids.TenantId, Figures]:
    """Look at every living tenant."""
    (rows,) = await database.fetch(None, (ALL, (None,)))
    return {tenant: _figures(*values) for tenant, *values in rows}


async def find(database: databases.Database, tenant: ids.TenantId) -> Figures:
    """Look at one tenant; one that is not there has nothing."""
    (rows,) = await database.fetch(None, (ALL, (tenant,)))
    return _figures(*rows[0][1:]) if rows else NONE


def _figures(
    users: int, groups: int, dead_letters: int, last_change: datetime | None, used: Mapping[str, str]
) -> Figures:
    moments = {token_id: datetime.fromisoformat(moment) for token_id, moment in used.items()}
    return Figures(users, groups, dead_letters, last_change, moments)
