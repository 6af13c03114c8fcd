"""Rows of tenants and tokens: what the operator writes and the api reads on each request.

Called by `usher_core.tenants`. Every statement names its tenant, except the two narrow look-ups that
find the tenant: by a token's id and by a host. A tenant's row goes along with its `drains` row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from usher_core import ids
from usher_core.store import databases


@dataclasses.dataclass(frozen=True, slots=True)
class TenantRow:
    """One tenant as the operator wants it stored."""

    tenant: ids.TenantId
    namespace: str
    name: str
    display_name: str | None
    host: str | None
    suspended: bool
    sso_required: bool
    sso_ready: bool
    sso_message: str
    config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class TokenRow:
    """One token as stored: never its text, only the digest."""

    token_id: ids.TokenId
    name: str
    digest: bytes = dataclasses.field(repr=False)
    role: str
    issued_at: datetime
    expires_at: datetime
    valid_until: datetime | None = None
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None
    delivered_at: datetime | None = None
    """When its text was seen to stand in its place; before that nobody can have it."""
    rotate_requested_at: datetime | None = None

    @property
    def ends_at(self) -> datetime:
        """When it stops working by itself: its expiry, or the end of its overlap if that is earlier."""
        return self.expires_at if self.valid_until is None else min(self.expires_at, self.valid_until)


@dataclasses.dataclass(frozen=True, slots=True)
class FoundToken:
    """A token with its tenant: all that one request needs to know."""

    tenant: ids.TenantId
    token_id: ids.TokenId
    name: str
    digest: bytes = dataclasses.field(repr=False)
    role: str
    expires_at: datetime
    valid_until: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    tenant_name: str
    namespace: str
    host: str | None
    suspended: bool
    sso_required: bool
    sso_ready: bool
    sso_message: str
    config: Mapping[str, Any]
    deleted_at: datetime | None
    schemas_version: int


@dataclasses.dataclass(frozen=True, slots=True)
class HostClaim:
    """A living tenant that names a host, and since when it has been known."""

    tenant: ids.TenantId
    namespace: str
    name: str
    created_at: datetime


FIND_BY_ID = """
SELECT tenant, token_id, name, digest, role, expires_at, valid_until, revoked_at, last_used_at,
       tenant_name, tenant_namespace, host, suspended, sso_required, sso_ready, sso_message, config,
       deleted_at, schemas_version
  FROM usher_token(%s)
"""

# An unchanged tenant is not written again: the operator comes by every few minutes.
PUT_TENANT = """
INSERT INTO tenants AS t (tenant, namespace, name, display_name, host, suspended,
                          sso_required, sso_ready, sso_message, config)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant) DO UPDATE
   SET display_name = excluded.display_name, host = excluded.host, suspended = excluded.suspended,
       sso_required = excluded.sso_required, sso_ready = excluded.sso_ready,
       sso_message = excluded.sso_message, config = excluded.config,
       deleted_at = NULL, updated_at = now()
 WHERE (t.display_name, t.host, t.suspended, t.sso_required, t.sso_ready, t.sso_message, t.config,
        t.deleted_at)
       IS DISTINCT FROM
       (excluded.display_name, excluded.host, excluded.suspended, excluded.sso_required,
        excluded.sso_ready, excluded.sso_message, excluded.config, NULL)
"""

INSERT_ISSUED = """
INSERT INTO tokens (tenant, token_id, name, digest, role, issued_at, expires_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (tenant, token_id) DO NOTHING  -- sent again after a connection broke: it is the same token
"""

# A tenant that was deleted and made again has the same id: its epochs go on where no old drain has been.
PUT_DRAIN = """
INSERT INTO drains (tenant, epoch) VALUES (%s, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)
ON CONFLICT (tenant) DO NOTHING
"""

LIST_ISSUED = """
SELECT token_id, name, digest, role, issued_at, expires_at, valid_until, revoked_at, last_used_at,
       delivered_at, rotate_requested_at
  FROM tokens WHERE tenant = %s ORDER BY issued_at, token_id
"""

NOTE_USE = """
UPDATE tokens SET last_used_at = %s
 WHERE tenant = %s AND token_id = %s AND (last_used_at IS NULL OR last_used_at < %s)
"""


async def find_token(database: databases.Database, token_id: ids.TokenId) -> FoundToken | None:
    """Find a token and its tenant by the token's id, whichever tenant it is of: the hot path."""
    ((*rows,),) = await database.fetch(None, (FIND_BY_ID, (token_id,)))
    return FoundToken(*rows[0]) if rows else None


async def find_host(database: databases.Database, host: str) -> tuple[HostClaim, ...]:
    """List the living tenants that name this host, the one known longest first."""
    (rows,) = await database.fetch(
        None, ("SELECT tenant, namespace, name FROM usher_tenants() WHERE host = %s AND deleted_at IS NULL",
               (host,)),
    )  # fmt: skip
    claims: list[HostClaim] = []
    for tenant, namespace, name in rows:
        (found,) = await database.fetch(
            tenant, ("SELECT created_at FROM tenants WHERE tenant = %s", (tenant,))
        )
        claims.extend(HostClaim(tenant, namespace, name, created_at) for (created_at,) in found)
    return tuple(sorted(claims, key=lambda claim: (claim.created_at, claim.tenant)))


async def get_config(database: databases.Database, tenant: ids.TenantId) -> Mapping[str, Any] | None:
    """Read the configuration that was last stored; `None` for a tenant that is not there."""
    (rows,) = await database.fetch(tenant, ("SELECT config FROM tenants WHERE tenant = %s", (tenant,)))
    return rows[0][0] if rows else None


async def put_tenant(database: databases.Database, row: TenantRow) -> None:
    """Create or change a tenant; one that was marked deleted lives again with all its data."""
    values = (row.tenant, row.namespace, row.name, row.display_name, row.host, row.suspended,
              row.sso_required, row.sso_ready, row.sso_message, Jsonb(dict(row.config)))  # fmt: skip
    await database.fetch(
        row.tenant,
        (PUT_TENANT, values),
        (PUT_DRAIN, (row.tenant,)),
    )


async def mark_deleted(database: databases.Database, tenant: ids.TenantId, at: datetime) -> None:
    """Revoke every token of a tenant and mark it deleted; its data stay.

    The raised epoch sends away a drain that is at work.
    """
    await database.fetch(
        tenant,
        ("UPDATE tokens SET revoked_at = %s WHERE tenant = %s AND revoked_at IS NULL", (at, tenant)),
        ("UPDATE tenants SET deleted_at = %s, updated_at = now() WHERE tenant = %s AND deleted_at IS NULL",
         (at, tenant)),
        ("UPDATE drains SET epoch = epoch + 1 WHERE tenant = %s", (tenant,)),
    )  # fmt: skip


async def list_tokens(database: databases.Database, tenant: ids.TenantId) -> tuple[TokenRow, ...]:
    """List every token of a tenant, revoked and expired ones too, the oldest first."""
    (rows,) = await database.fetch(tenant, (LIST_ISSUED, (tenant,)))
    return tuple(TokenRow(*row) for row in rows)


async def insert_token(database: databases.Database, tenant: ids.TenantId, row: TokenRow) -> None:
    """Store a new token."""
    values = (tenant, row.token_id, row.name, row.digest, row.role, row.issued_at, row.expires_at)
    await database.fetch(tenant, (INSERT_ISSUED, values))


async def note_delivery(
    database: databases.Database, tenant: ids.TenantId, token_id: ids.TokenId, at: datetime
) -> None:
    """Note that a token's text stands in its place: from now on somebody may have it."""
    statement = "UPDATE tokens SET delivered_at = %s WHERE tenant = %s AND token_id = %s"
    await database.fetch(tenant, (statement, (at, tenant, token_id)))


async def restrict(
    database: databases.Database,
    tenant: ids.TenantId,
    names: Sequence[str],
    at: datetime,
    *,
    suspended: bool,
) -> list[tuple[str, str]]:
    """Take away what a spec no longer gives: tokens of other names, and with `suspended` the service.

    Needs the store alone, so that nothing else that is away delays it. Returns name and id of each token
    that was revoked just now.
    """
    revoked, *_ = await database.fetch(
        tenant,
        ("UPDATE tokens SET revoked_at = %s WHERE tenant = %s AND revoked_at IS NULL AND name <> ALL (%s)"
         " RETURNING name, token_id, least(expires_at, valid_until) > %s", (at, tenant, list(names), at)),
        ("UPDATE tenants SET suspended = true WHERE tenant = %s AND %s AND NOT suspended",
         (tenant, suspended)),
    )  # fmt: skip
    return [(name, token_id) for name, token_id, worked in revoked if worked]


async def request_rotation(
    database: databases.Database, tenant: ids.TenantId, token_id: ids.TokenId, at: datetime
) -> None:
    """Ask for a successor of a token, which the next reconciliation issues; asked twice it is the same."""
    statement = (
        "UPDATE tokens SET rotate_requested_at = %s"
        " WHERE tenant = %s AND token_id = %s AND rotate_requested_at IS NULL"
    )
    await database.fetch(tenant, (statement, (at, tenant, token_id)))


async def revoke_tokens(
    database: databases.Database, tenant: ids.TenantId, token_ids: Sequence[ids.TokenId], at: datetime
) -> None:
    """Revoke tokens for good; those revoked before keep their moment."""
    statement = (
        "UPDATE tokens SET revoked_at = %s WHERE tenant = %s AND token_id = ANY (%s) AND revoked_at IS NULL"
    )
    await database.fetch(tenant, (statement, (at, tenant, list(token_ids))))


async def limit_token(
    database: databases.Database, tenant: ids.TenantId, token_id: ids.TokenId, until: datetime | None
) -> None:
    """Let a token that has a successor work until then; `None` lets it work until it expires."""
    statement = "UPDATE tokens SET valid_until = %s WHERE tenant = %s AND token_id = %s"
    await database.fetch(tenant, (statement, (until, tenant, token_id)))


async def set_role(
    database: databases.Database, tenant: ids.TenantId, token_ids: Sequence[ids.TokenId], role: str
) -> None:
    """Give tokens another role, without another text."""
    statement = "UPDATE tokens SET role = %s WHERE tenant = %s AND token_id = ANY (%s)"
    await database.fetch(tenant, (statement, (role, tenant, list(token_ids))))


async def touch_token(
    database: databases.Database, tenant: ids.TenantId, token_id: ids.TokenId, at: datetime
) -> None:
    """Note that a token was in use; an earlier moment than the one noted changes nothing."""
    await database.fetch(tenant, (NOTE_USE, (at, tenant, token_id, at)))
