"""Brings the store and the vault to what a manifest asks for; the operator's and `usher dev`'s one path.

Invariant: decides by what is, never by what it remembers. Run again it changes nothing; run after a crash
at any point it goes on.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from usher_core.store import databases, figures, removals, tenants
from usher_core.tenants import (
    checks,
    conditions,
    configs,
    definitions,
    manifests,
    rotations,
    sources,
    vaults,
)
from usher_core.tenants.conditions import Condition, ConditionType

SETTLING = 30.0  # seconds; so long `usher dev` waits at its start for what is under way
LOOK_EVERY = 0.2
REMOVING = 1.0  # seconds of a call that takes data away


@dataclasses.dataclass(frozen=True, slots=True)
class Reconciled:
    """What a tenant is after a reconciliation."""

    conditions: tuple[Condition, ...]
    url: str | None
    tokens: tuple[rotations.TokenStatus, ...]
    happenings: tuple[rotations.Happening, ...]
    figures: figures.Figures
    sso_ends_at: datetime | None
    """When the first certificate that users sign in by ends; `None` where there is none."""

    def condition(self, type_: ConditionType) -> Condition:
        """Find one condition."""
        return next(condition for condition in self.conditions if condition.type == type_)

    @property
    def is_settled(self) -> bool:
        """Whether nothing is under way: what is so now stays so."""
        return all(condition.reason != conditions.CHECKING for condition in self.conditions)


@dataclasses.dataclass(frozen=True, slots=True)
class AppliedTenant:
    """A tenant out of a bundle, with what its identity provider has to be told."""

    name: str
    namespace: str
    base_url: str
    token: str | None = dataclasses.field(repr=False)
    """The text of its first administrator token, as the vault holds it."""
    issued: bool
    """Whether that token was made just now."""
    ready: bool
    message: str
    """Why it is not ready, or that it is."""


async def reconcile(
    manifest: manifests.ScimTenant,
    sources_: sources.Sources,
    vault: vaults.Vault,
    database: databases.Database,
    base_url: str | None,
    channel: definitions.Channel,
    now: datetime,
    rotate: Mapping[str, datetime] | None = None,
) -> Reconciled:
    """Bring one tenant to what its manifest says.

    What it takes away it takes away first, for that needs the store alone.

    `base_url` is where tenants without a host are served, with or without the SCIM path; `None` when
    nobody told. `channel` is the way to the tenant's stream. `rotate` names tokens of which those issued
    before a moment are to be rotated.

    Raises:
        StoreUnavailable, VaultUnavailable, SourceUnavailable: try again; what was done so far is fine.
    """
    spec, url = manifest.spec, checks.url_of(manifest.spec, base_url)
    names = [token.name for token in spec.tokens]
    gone = await tenants.restrict(database, manifest.tenant, names, now, suspended=spec.suspend)
    signing_on = await checks.sso(manifest, sources_, now)
    sso = signing_on.condition
    wanted = [rotations.ref_of(manifest, token) for token in spec.tokens]
    stale = await _stale(manifest, vault, database, wanted)
    conflict = await _store(manifest, database, sso, [*wanted, *stale])
    kept = await rotations.Keeper(manifest, vault, database, url, now, rotate or {}).keep()
    if stale:
        for ref in stale:
            await vault.delete_token(ref)
        await tenants.put_tenant(database, _row(manifest, sso, conflict, wanted))
    parts = [checks.suspended(spec), conflict, checks.endpoint(url, conflict), sso, _issued(kept)]
    schemas = await definitions.reconcile(manifest, sources_, database, channel)
    if schemas is not None:
        parts.append(schemas)
    revoked = [rotations.revoked(name, token_id, "it is gone from the spec") for name, token_id in gone]
    return Reconciled(
        conditions=(conditions.ready(parts, sso_required=spec.sso.mode == "Required"), *parts),
        url=url if conflict.status == "False" else None,
        tokens=kept.statuses,
        happenings=(*revoked, *kept.happenings),
        figures=await figures.find(database, manifest.tenant),
        sso_ends_at=signing_on.ends_at,
    )


async def remove(
    namespace: str,
    name: str,
    deletion_policy: str,
    vault: vaults.Vault,
    database: databases.Database,
    now: datetime,
) -> removals.Progress | None:
    """Take a tenant out of service: tokens revoked first, then their Secrets, with `Delete` its data.

    Much data takes many calls: `None` when nothing is left to do. A manifest that can't be read is no
    hindrance: any other policy than `Delete` keeps the data.

    Raises:
        StoreUnavailable, VaultUnavailable: try again; what was done so far is fine.
    """
    tenant = manifests.tenant_id(namespace, name)
    recorded = _refs(await tenants.get_config(database, tenant), namespace, name)
    await tenants.mark_deleted(database, tenant, now)
    for ref in recorded:
        await vault.delete_token(ref)
    if deletion_policy != "Delete":
        return None
    return await removals.remove_some(database, tenant, seconds=REMOVING)


async def apply_bundle(
    bundle: manifests.Bundle,
    *,
    database_url: str,
    redis_url: str | None = None,
    vault: vaults.Vault,
    base_url: str,
) -> list[AppliedTenant]:
    """Bring every tenant of a bundle into the store, in order: `usher dev`'s way in.

    Waits for a while until the schemas of their own are checked, which a worker does.

    Raises:
        StoreUnavailable: PostgreSQL can't be reached.
    """
    async with databases.Database(database_url, application="usher-manifests", pool_size=2) as database:
        channel = definitions.Channel("dev", redis_url)
        return [await _apply(tenant, bundle, database, vault, base_url, channel) for tenant in bundle.tenants]


async def _apply(
    manifest: manifests.ScimTenant,
    bundle: manifests.Bundle,
    database: databases.Database,
    vault: vaults.Vault,
    base_url: str,
    channel: definitions.Channel,
) -> AppliedTenant:
    now = datetime.now(UTC)
    done = await reconcile(manifest, bundle, vault, database, base_url, channel, now)
    patience = SETTLING / LOOK_EVERY
    while not done.is_settled and patience > 0:
        await asyncio.sleep(LOOK_EVERY)
        done = await reconcile(manifest, bundle, vault, database, base_url, channel, now)
        patience -= 1
    url, ready = checks.url_of(manifest.spec, base_url), done.condition("Ready")
    text: str | None = None
    issued = False
    standing = {status.name: status for status in done.tokens}
    for token in manifest.spec.tokens:
        if token.role == "administrator" and token.name in standing:
            stored = await vault.read_token(rotations.ref_of(manifest, token), base_url=url)
            text = stored.text if stored is not None else None
            issued = standing[token.name].current.issued_at == now
            break
    return AppliedTenant(
        name=manifest.metadata.name,
        namespace=manifest.metadata.namespace,
        base_url=url or base_url,
        token=text,
        issued=issued,
        ready=ready.status == "True",
        message=ready.message,
    )


async def _store(
    manifest: manifests.ScimTenant,
    database: databases.Database,
    sso: Condition,
    refs: Iterable[vaults.TokenRef],
) -> Condition:
    """Write the tenant's row; return whether its host is another one's."""
    refs = list(refs)
    conflict = await checks.conflict(manifest, database)
    await tenants.put_tenant(database, _row(manifest, sso, conflict, refs))
    if manifest.spec.endpoint.host is not None and conflict.status == "False":
        # Another tenant may have taken the host between the look and the write: now each sees the other.
        conflict = await checks.conflict(manifest, database)
        await tenants.put_tenant(database, _row(manifest, sso, conflict, refs))
    return conflict


def _row(
    manifest: manifests.ScimTenant, sso: Condition, conflict: Condition, refs: Iterable[vaults.TokenRef]
) -> tenants.TenantRow:
    metadata, spec = manifest.metadata, manifest.spec
    taken, sso_ready = conflict.status == "True", sso.status == "True"
    config = configs.to_document(configs.of_spec(spec, host_taken=taken))
    # Not to decide by, but to find the Secrets that a later spec no longer names.
    config["secrets"] = [[ref.token_name, ref.secret_name, ref.key] for ref in refs]
    return tenants.TenantRow(
        tenant=manifest.tenant,
        namespace=metadata.namespace,
        name=metadata.name,
        display_name=spec.display_name,
        host=None if taken else spec.endpoint.host,
        suspended=spec.suspend,
        sso_required=spec.sso.mode == "Required",
        sso_ready=sso_ready,
        sso_message="" if sso_ready else _sso_message(sso),
        config=config,
    )


def _sso_message(sso: Condition) -> str:
    return (
        f"SAML SSO is required for this tenant and is not ready: {sso.message}. Configure SAML SSO first "
        "(spec.sso.saml of its ScimTenant)"
    )


def _issued(kept: rotations.Kept) -> Condition:
    if kept.refused:
        return conditions.false("TokensIssued", "SecretNotOurs", "; ".join(kept.refused))
    return conditions.true("TokensIssued", "Issued", "every token is in its Secret")


async def _stale(
    manifest: manifests.ScimTenant,
    vault: vaults.Vault,
    database: databases.Database,
    wanted: Iterable[vaults.TokenRef],
) -> list[vaults.TokenRef]:
    """List the places that were once written and are not asked for any more."""
    places = {vault.locate(ref) for ref in wanted}
    config = await tenants.get_config(database, manifest.tenant)
    recorded = _refs(config, manifest.metadata.namespace, manifest.metadata.name)
    return [ref for ref in recorded if vault.locate(ref) not in places]


def _refs(config: Mapping[str, Any] | None, namespace: str, name: str) -> list[vaults.TokenRef]:
    recorded = config.get("secrets", []) if config is not None else []
    return [vaults.TokenRef(namespace, name, token, secret, key) for token, secret, key in recorded]
