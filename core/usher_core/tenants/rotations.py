"""Keeps each token of a spec issued, renewed and revoked, in the store and in the vault.

Called by `reconciliations`. What should happen is decided in `renewals`; here it is done. Invariant: a
token's row is stored before its text is handed over, so no text that anybody holds is unknown to the store,
and a crash in between leaves an orphan that the next run revokes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Literal, TypeAlias

from usher_core.store import databases, tenants
from usher_core.tenants import manifests, renewals, specs, tokens, vaults

Reason: TypeAlias = Literal["TokenIssued", "TokenRotated", "TokenRevoked"]


@dataclasses.dataclass(frozen=True, slots=True)
class TokenStatus:
    """One token as it stands, with the one before while that still works."""

    name: str
    current: tenants.TokenRow
    renew_at: datetime
    previous: tenants.TokenRow | None


@dataclasses.dataclass(frozen=True, slots=True)
class Happening:
    """Something that was done to a token, to be told as an event."""

    reason: Reason
    message: str


@dataclasses.dataclass(frozen=True, slots=True)
class Kept:
    """What became of all tokens; `refused` tells of each that has no Secret to stand in."""

    statuses: tuple[TokenStatus, ...]
    refused: tuple[str, ...]
    happenings: tuple[Happening, ...]


def ref_of(manifest: manifests.ScimTenant, token: specs.Token) -> vaults.TokenRef:
    """Name the place that a manifest gives to one of its tokens."""
    metadata, secret = manifest.metadata, token.secret_ref
    return vaults.TokenRef(metadata.namespace, metadata.name, token.name, secret.name, secret.key)


def revoked(name: str, token_id: str, why: str) -> Happening:
    """Tell of a token that was revoked."""
    return Happening("TokenRevoked", f"token {name} with the id {token_id} was revoked: {why}")


class Keeper:
    """Keeps the tokens of one tenant, once; `url` goes along with each token into the vault.

    `rotate` names tokens that somebody wants rotated, each with the moment before which it was issued.
    """

    def __init__(
        self,
        manifest: manifests.ScimTenant,
        vault: vaults.Vault,
        database: databases.Database,
        url: str | None,
        now: datetime,
        rotate: Mapping[str, datetime],
    ) -> None:
        self._manifest = manifest
        self._vault = vault
        self._database = database
        self._url = url
        self._now = now
        self._rotate = rotate
        self._happenings: list[Happening] = []

    async def keep(self) -> Kept:
        """Bring every token to what the spec asks for.

        Raises:
            StoreUnavailable, VaultUnavailable: try again; what was done so far is fine.
        """
        spec = self._manifest.spec
        rows = await tenants.list_tokens(self._database, self._manifest.tenant)
        alive = [row for row in rows if renewals.is_alive(row, self._now)]
        statuses, refused = [], []
        for token in spec.tokens:
            try:
                statuses.append(await self._keep_one(token, [row for row in alive if row.name == token.name]))
            except vaults.SecretNotOurs as exc:
                refused.append(f"{token.name}: {exc}")
        return Kept(tuple(statuses), tuple(refused), tuple(self._happenings))

    async def _keep_one(self, token: specs.Token, alive: Sequence[tenants.TokenRow]) -> TokenStatus:
        ref = ref_of(self._manifest, token)
        stored = await self._vault.read_token(ref, base_url=self._url)
        held = renewals.held_row(stored.text if stored else None, alive, self._now)
        orphans = renewals.orphans([row for row in alive if row is not held], held)
        await self._revoke(orphans, "its Secret was never written")
        alive = [row for row in alive if row not in orphans]
        wrong = [row.token_id for row in alive if row.role != token.role]
        if wrong:
            await tenants.set_role(self._database, self._manifest.tenant, wrong, token.role)
        wanted = self._rotate.get(token.name)
        if stored is None or held is None or renewals.is_due(held, token, self._now, wanted):
            current = await self._issue(token, rotated=bool(alive))
        else:
            current = held
            if not stored.complete or stored.expires_at not in (None, held.expires_at.replace(microsecond=0)):
                await self._vault.write_token(
                    ref, stored.text, base_url=self._url, expires_at=held.expires_at
                )
        if current.delivered_at is None:
            await tenants.note_delivery(self._database, self._manifest.tenant, current.token_id, self._now)
        return await self._overlap(token, current, [row for row in alive if row is not current])

    async def _issue(self, token: specs.Token, *, rotated: bool) -> tenants.TokenRow:
        issued = tokens.issue(token.name, token.role, token.ttl, self._now)
        row, secret = issued.record, token.secret_ref
        await tenants.insert_token(self._database, self._manifest.tenant, row)
        await self._vault.write_token(
            ref_of(self._manifest, token), issued.text, base_url=self._url, expires_at=row.expires_at
        )
        self._tell(
            "TokenRotated" if rotated else "TokenIssued",
            f"token {token.name} has the id {row.token_id} and is in Secret {secret.name}, key {secret.key}",
        )
        return row

    async def _overlap(
        self, token: specs.Token, current: tenants.TokenRow, before: Sequence[tenants.TokenRow]
    ) -> TokenStatus:
        previous = None
        for row in sorted(before, key=lambda row: row.issued_at):
            until = renewals.overlap_end(row, current, token, self._now)
            if until != row.valid_until:
                await tenants.limit_token(self._database, self._manifest.tenant, row.token_id, until)
            if until is None or until > self._now:
                previous = dataclasses.replace(row, valid_until=until)
        return TokenStatus(token.name, current, renewals.renew_at(current, token), previous)

    async def _revoke(self, rows: Sequence[tenants.TokenRow], why: str) -> None:
        if not rows:
            return
        token_ids = [row.token_id for row in rows]
        await tenants.revoke_tokens(self._database, self._manifest.tenant, token_ids, self._now)
        self._happenings.extend(revoked(row.name, row.token_id, why) for row in rows)

    def _tell(self, reason: Reason, message: str) -> None:
        self._happenings.append(Happening(reason, message))
