"""The registries of tenants with schemas of their own, compiled once and kept; the rest have ours.

The api and each worker process hold a `Registries`; both know the version that holds from what they read
anyway, and come here only when it is another one. Invariant: bounded, and never a registry for a version that
is not its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from usher_core import errors, ids
from usher_core.scim import registries, schemas
from usher_core.store import databases

READ = "SELECT schemas, schemas_version FROM tenants WHERE tenant = %s"

CAPACITY = 256


class Registries:
    """The registries that were used last, one a tenant."""

    def __init__(self) -> None:
        self._kept: dict[ids.TenantId, schemas.Registry] = {}

    def kept(self, tenant: ids.TenantId) -> schemas.Registry:
        """Return the registry that was kept last for a tenant; ours if there is none."""
        registry = self._kept.pop(tenant, None)
        if registry is None:
            return schemas.default()
        self._kept[tenant] = registry  # the one used last stands last
        return registry

    def keep(self, tenant: ids.TenantId, registry: schemas.Registry) -> None:
        """Keep a tenant's registry in the place of an earlier one."""
        self._kept.pop(tenant, None)
        if registry.version == 0:
            return
        while len(self._kept) >= CAPACITY:
            del self._kept[next(iter(self._kept))]
        self._kept[tenant] = registry

    async def of(self, database: databases.Database, tenant: ids.TenantId, version: int) -> schemas.Registry:
        """Return a tenant's registry at a version, or at a later one if that holds by now.

        Raises:
            StoreUnavailable: PostgreSQL is away, or this version of the service can't read what is there.
        """
        if version == 0:
            return schemas.default()
        registry = self.kept(tenant)
        if registry.version != version:
            registry = await current(database, tenant)
            self.keep(tenant, registry)
        return registry


async def current(database: databases.Database, tenant: ids.TenantId) -> schemas.Registry:
    """Read the registry that a tenant has now.

    Raises:
        StoreUnavailable: PostgreSQL is away, or this version of the service can't read what is there.
    """
    [rows] = await database.fetch(tenant, (READ, (tenant,)))
    return compiled(rows)


def compiled(rows: Sequence[Sequence[Any]]) -> schemas.Registry:
    """Make the registry of what `READ` found.

    Raises:
        StoreUnavailable: another version of the service accepted what this one can't read.
    """
    documents, version = rows[0] if rows else ([], 0)
    try:
        return registries.build(documents, version)
    except errors.InvalidValue as exc:
        raise errors.StoreUnavailable(f"the tenant's schemas can't be read: {exc.detail}") from exc
