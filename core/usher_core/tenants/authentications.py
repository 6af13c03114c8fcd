"""Who a request comes from: the api asks here, once for each request.

Invariant: what the store says is believed for at most a second, of unknown tokens too; a store that is
away is 503, never 401, for identity providers quarantine a tenant whose credentials fail. A message tells
about a token or a tenant only to who holds the token.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from datetime import UTC, datetime

import structlog

from usher_core import errors, ids
from usher_core.scim import schemas
from usher_core.store import databases, registries, tenants
from usher_core.tenants import caches, configs, credentials, tokens

SUSPENDED = "this tenant is suspended (spec.suspend of its ScimTenant)"

TOUCH_EVERY = 60.0  # seconds between two notes of a token's use

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Principal:
    """The token that a request came with, and its tenant."""

    tenant: ids.TenantId
    tenant_name: str
    namespace: str
    host: str | None
    token_id: ids.TokenId
    token_name: str
    role: tokens.Role
    config: configs.TenantConfig
    registry: schemas.Registry
    """The schemas and resource types that the tenant has, its own among them."""
    suspension: str | None = None
    """Why nothing is served but, unless the tenant wants it otherwise, a revocation; `None` for most."""

    def require_writer(self) -> None:
        """Insist on the role administrator.

        Raises:
            Forbidden: the token may only read.
        """
        if self.role != "administrator":
            raise errors.Forbidden(
                f"the token {self.token_name!r} has the role {self.role}: it may read, but change nothing"
            )


@dataclasses.dataclass(slots=True)
class _Entry:
    """A token as it was looked up, prepared for the requests of the next second."""

    found: tenants.FoundToken
    principal: Principal
    ends_at: float
    refusal: str | None
    touch_at: float


class Authenticator:
    """Tells requests apart by their bearer tokens; one of them serves one event loop."""

    def __init__(self, database: databases.Database) -> None:
        self._database = database
        self._entries = caches.Lookups(self._look_up)
        self._registries = registries.Registries()
        self._claims = caches.Lookups(self._look_up_host)
        self._touched: dict[ids.TokenId, float] = {}
        self._touches: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Wait for the uses that are being noted."""
        await asyncio.gather(*self._touches)

    async def authenticate(self, authorization: str | None, host: str | None) -> Principal:
        """Find the principal of a request by its headers Authorization and Host.

        Raises:
            Unauthenticated: there is no token that works here; says what is expected.
            Forbidden: the token is good, but its tenant is not ready; says what to do.
            Unavailable: the store can't be asked now.
        """
        presented = credentials.parse(authorization)
        name = bare_host(host)
        try:
            # Asked without waiting first: of a busy tenant it is nearly always there.
            kept = self._entries.kept(presented.token_id)
            if kept is None:
                self._claims.renew(name)  # both at once: a tenant that writes rarely waits for them each time
            entry = kept[1] if kept else await self._entries.get(presented.token_id)
            if entry is None or not tokens.matches(presented.digest, entry.found):
                raise credentials.refused("the bearer token is unknown")
            now = time.time()
            if now >= entry.ends_at:
                raise credentials.refused(_ended(entry.found))
            if not await self._is_served(entry.principal, name):
                raise credentials.refused("the token's tenant is not served at this host")
        except errors.StoreUnavailable as exc:
            raise errors.Unavailable(
                "the token can't be checked now, for the store is away: try again"
            ) from exc
        if now >= entry.touch_at:
            self._touch(entry, now)
        if entry.refusal is not None:
            raise errors.Forbidden(entry.refusal)
        return entry.principal

    async def _is_served(self, principal: Principal, host: str) -> bool:
        if principal.host is not None or not host:
            return (principal.host or "") == host
        claims = self._claims.kept(host)
        return not (claims[1] if claims else await self._claims.get(host))

    async def _look_up(self, token_id: ids.TokenId) -> _Entry | None:
        found = await tenants.find_token(self._database, token_id)
        if found is None:
            return None
        registry = await self._registries.of(self._database, found.tenant, found.schemas_version)
        used_at = found.last_used_at.timestamp() if found.last_used_at else 0.0
        return _Entry(
            found=found,
            principal=_principal(found, registry),
            ends_at=_ends_at(found),
            refusal=_refusal(found),
            touch_at=max(used_at, self._touched.get(token_id, 0.0)) + TOUCH_EVERY,
        )

    async def _look_up_host(self, host: str) -> tuple[tenants.HostClaim, ...]:
        return await tenants.find_host(self._database, host)

    def _touch(self, entry: _Entry, now: float) -> None:
        """Note the use in the background: no request waits for it, or fails with it."""
        entry.touch_at = now + TOUCH_EVERY
        if len(self._touched) >= caches.CAPACITY:
            self._touched.clear()
        self._touched[entry.found.token_id] = now
        task = asyncio.create_task(self._note_use(entry.found, now))
        self._touches.add(task)
        task.add_done_callback(self._touches.discard)

    async def _note_use(self, found: tenants.FoundToken, now: float) -> None:
        try:
            await tenants.touch_token(
                self._database, found.tenant, found.token_id, datetime.fromtimestamp(now, UTC)
            )
        except errors.StoreUnavailable as exc:
            self._touched.pop(found.token_id, None)
            log.warning("use of a token not noted", token_id=found.token_id, reason=str(exc))


def bare_host(host: str | None) -> str:
    """Bring the value of a Host header into the form in which hosts are stored: no port, lower case."""
    name = (host or "").lower()
    before, colon, port = name.rpartition(":")
    if colon and port.isdigit():
        name = before
    return name.rstrip(".")


def _principal(found: tenants.FoundToken, registry: schemas.Registry) -> Principal:
    return Principal(
        tenant=found.tenant,
        tenant_name=found.tenant_name,
        namespace=found.namespace,
        host=found.host,
        token_id=found.token_id,
        token_name=found.name,
        role="administrator" if found.role == "administrator" else "reader",
        config=configs.from_document(found.config),
        registry=registry,
        suspension=SUSPENDED if found.suspended else None,
    )


def _ends_at(found: tenants.FoundToken) -> float:
    # A revocation holds whatever the clocks of two machines say.
    if found.revoked_at is not None or found.deleted_at is not None:
        return 0.0
    return min(end.timestamp() for end in (found.expires_at, found.valid_until) if end is not None)


def _ended(found: tenants.FoundToken) -> str:
    if found.deleted_at is not None:
        return "the token's tenant was deleted"
    if found.revoked_at is not None:
        return f"the token {found.name!r} was revoked at {_told(found.revoked_at)}"
    if found.valid_until is not None and found.valid_until < found.expires_at:
        return f"the token {found.name!r} was replaced by a new one and ended at {_told(found.valid_until)}"
    return f"the token {found.name!r} expired at {_told(found.expires_at)}"


def _refusal(found: tenants.FoundToken) -> str | None:
    if configs.from_document(found.config).host_taken:
        return "this tenant is served nowhere: its host (spec.endpoint.host) is taken by another tenant"
    if found.sso_required and not found.sso_ready:
        return found.sso_message or "SAML SSO is required for this tenant and is not configured yet"
    return None


def _told(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
