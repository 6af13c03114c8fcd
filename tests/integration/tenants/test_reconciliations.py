"""Tenants and tokens against a real PostgreSQL: what a manifest asks for comes true, once."""

from __future__ import annotations

import copy
import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from usher_core import errors
from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import databases, removals, tenants
from usher_core.tenants import definitions, manifests, reconciliations, sources, tokens, vaults
from usher_core.testing import identity_providers

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
CERTIFICATE = identity_providers.certificate(NOW - 365 * 24 * HOUR, NOW + 365 * 24 * HOUR)
METADATA = identity_providers.metadata(CERTIFICATE).encode()
ACME = manifests.tenant_id("identity", "acme")


def manifest(name: str = "acme", **spec: Any) -> manifests.ScimTenant:
    document: dict[str, Any] = {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": name, "namespace": "identity"},
        "spec": {"tokens": [token()], "sso": {"saml": {"metadataConfigMapRef": {"name": "saml"}}}, **spec},
    }
    return manifests.parse(document)


def token(name: str = "okta", **fields: Any) -> dict[str, Any]:
    # 100 days, renewed after 90, with a day of overlap.
    return {"name": name, "ttl": "2400h", "renewBefore": "240h", "overlap": "24h",
            "secretRef": {"name": f"scim-{name}"}, **fields}  # fmt: skip


SOURCES = manifests.Bundle((), {}, {("identity", "saml"): {"metadata.xml": METADATA}})
NO_SOURCES = manifests.Bundle((), {}, {})


def with_metadata(begins: int, ends: int) -> manifests.Bundle:
    """Name metadata whose certificate is valid from and until so many days from now."""
    made = identity_providers.certificate(NOW + begins * 24 * HOUR, NOW + ends * 24 * HOUR)
    values = {"metadata.xml": identity_providers.metadata(made).encode()}
    return manifests.Bundle((), {}, {("identity", "saml"): values})


@dataclasses.dataclass
class World:
    """One store and one vault, with a clock that the test sets."""

    database: databases.Database
    vault: vaults.FileVault
    now: datetime = NOW

    async def reconcile(
        self, wanted: manifests.ScimTenant | None = None, **kw: Any
    ) -> reconciliations.Reconciled:
        return await reconciliations.reconcile(
            wanted or manifest(), kw.get("sources", SOURCES), kw.get("vault", self.vault), self.database,
            "https://scim.example.com", kw.get("channel", definitions.Channel("operator")), self.now,
            kw.get("rotate"),
        )  # fmt: skip

    async def rows(self, name: str = "okta") -> list[tenants.TokenRow]:
        return [row for row in await tenants.list_tokens(self.database, ACME) if row.name == name]

    async def text(self, name: str = "okta") -> str | None:
        stored = await self.vault.read_token(self.ref(name), base_url=None)
        return stored.text if stored else None

    def ref(self, name: str = "okta") -> vaults.TokenRef:
        return vaults.TokenRef("identity", "acme", name, f"scim-{name}", "token")

    async def use(self, row: tenants.TokenRow) -> None:
        await tenants.touch_token(self.database, ACME, row.token_id, self.now)

    async def works(self, text: str | None) -> bool:
        assert text is not None
        parsed = tokens.parse(text)
        found = await tenants.find_token(self.database, parsed.token_id)
        if found is None or found.revoked_at or found.deleted_at or not tokens.matches(parsed.digest, found):
            return False
        return self.now < min(found.expires_at, found.valid_until or found.expires_at)


@pytest.fixture
def world(database: databases.Database, tmp_path: Path) -> World:
    return World(database, vaults.FileVault(tmp_path / "secrets"))


async def test_a_new_tenant_is_ready_with_its_token_in_the_vault(world: World, tmp_path: Path) -> None:
    done = await world.reconcile()
    assert done.condition("Ready").status == "True"
    assert done.url == "https://scim.example.com/iam/scim/v2"
    assert [happening.reason for happening in done.happenings] == ["TokenIssued"]
    (row,) = await world.rows()
    assert (row.role, row.issued_at, row.expires_at) == ("administrator", NOW, NOW + 2400 * HOUR)
    assert done.tokens[0].renew_at == NOW + 2160 * HOUR
    assert await world.works(await world.text())
    file = tmp_path / "secrets" / "identity.acme.okta"
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


async def test_no_text_of_a_token_is_in_the_store(world: World, database_urls: DatabaseUrls) -> None:
    await world.reconcile()
    secret = (await world.text() or "").split("_")[2]
    with psycopg.connect(database_urls.owner) as owner:
        for table in ("tenants", "tokens"):
            rows = owner.execute(f"SELECT t::text FROM {table} t".encode()).fetchall()
            assert rows
            assert secret not in str(rows)


async def test_a_restart_changes_nothing(world: World, database_urls: DatabaseUrls) -> None:
    await world.reconcile()
    text, rows = await world.text(), await world.rows()
    with psycopg.connect(database_urls.owner) as owner:
        before = owner.execute("SELECT xmin::text, ctid::text FROM tenants").fetchall()
        world.now += 24 * HOUR
        done = await world.reconcile()
        after = owner.execute("SELECT xmin::text, ctid::text FROM tenants").fetchall()
    assert done.happenings == ()
    assert (await world.text(), await world.rows()) == (text, rows)
    assert before == after


async def test_a_lost_secret_is_replaced_and_the_token_in_use_overlaps(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    await world.use((await world.rows())[0])
    await world.vault.delete_token(world.ref())
    done = await world.reconcile()
    assert [happening.reason for happening in done.happenings] == ["TokenRotated"]
    assert await world.text() != old
    assert await world.works(old)
    assert await world.works(await world.text())


async def test_a_lost_token_works_on_for_the_overlap_for_somebody_may_have_it(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    await world.vault.delete_token(world.ref())
    world.now += HOUR
    await world.reconcile()
    await world.use((await world.rows())[1])
    await world.reconcile()
    assert await world.works(old)
    assert await world.works(await world.text())
    world.now += 24 * HOUR
    await world.reconcile()
    assert not await world.works(old)


async def test_a_token_that_is_asked_to_rotate_does_so_once(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    world.now += HOUR
    asked = {"okta": world.now}
    done = await world.reconcile(rotate=asked)
    assert [happening.reason for happening in done.happenings] == ["TokenRotated"]
    new = await world.text()
    assert new != old
    world.now += HOUR
    assert (await world.reconcile(rotate=asked)).happenings == ()
    assert await world.text() == new
    assert await world.works(old)


async def test_what_a_spec_takes_away_needs_the_store_alone(
    world: World, database_urls: DatabaseUrls
) -> None:
    class Away:
        async def get_secret(self, namespace: str, name: str) -> None:
            raise sources.SourceUnavailable("away")

        get_config_map = get_secret

    await world.reconcile(manifest(tokens=[token(), token("entra")]))
    entra = await world.text("entra")
    with pytest.raises(sources.SourceUnavailable):
        await world.reconcile(manifest(suspend=True), sources=Away())
    assert not await world.works(entra)
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute("SELECT suspended FROM tenants").fetchone() == (True,)


async def test_a_lost_row_gets_a_new_token(world: World, database_urls: DatabaseUrls) -> None:
    await world.reconcile()
    old = await world.text()
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("DELETE FROM tokens")
    done = await world.reconcile()
    assert [happening.reason for happening in done.happenings] == ["TokenIssued"]
    assert await world.text() != old
    assert await world.works(await world.text())


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("garbage", id="garbage"),
        pytest.param(tokens.issue("okta", "reader", HOUR, NOW).text, id="unknown-token"),
    ],
)
async def test_a_secret_that_was_tampered_with_is_written_anew(world: World, text: str) -> None:
    await world.reconcile()
    await world.vault.write_token(world.ref(), text, base_url=None, expires_at=NOW)
    await world.reconcile()
    assert await world.works(await world.text())


async def test_a_renamed_token_is_another_token(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    done = await world.reconcile(manifest(tokens=[token("entra", secretRef={"name": "scim-okta"})]))
    assert {happening.reason for happening in done.happenings} == {"TokenRevoked", "TokenIssued"}
    assert not await world.works(old)
    assert await world.text("okta") is None
    assert await world.works(await world.text("entra"))


async def test_a_removed_token_is_revoked_and_its_secret_deleted(world: World) -> None:
    await world.reconcile(manifest(tokens=[token(), token("entra")]))
    entra, okta = await world.text("entra"), await world.text("okta")
    await world.reconcile()
    assert not await world.works(entra)
    assert await world.text("entra") is None
    assert await world.text("okta") == okta
    assert await world.works(okta)


async def test_a_role_changes_without_another_token(world: World) -> None:
    await world.reconcile()
    text = await world.text()
    await world.reconcile(manifest(tokens=[token(role="reader")]))
    assert await world.text() == text
    assert [row.role for row in await world.rows()] == ["reader"]


async def test_a_token_is_renewed_at_renew_before_and_not_earlier(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    world.now = NOW + 2160 * HOUR - timedelta(seconds=1)
    await world.reconcile()
    assert await world.text() == old
    world.now = NOW + 2160 * HOUR
    done = await world.reconcile()
    assert [happening.reason for happening in done.happenings] == ["TokenRotated"]
    assert await world.text() != old
    assert await world.works(await world.text())
    assert await world.works(old)


async def test_the_old_token_works_for_the_overlap_once_the_new_one_is_in_use(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    world.now = NOW + 2160 * HOUR
    await world.reconcile()
    await world.use((await world.rows())[1])
    done = await world.reconcile()
    assert done.tokens[0].previous is not None
    assert done.tokens[0].previous.ends_at == world.now + 24 * HOUR
    world.now += 24 * HOUR - timedelta(seconds=1)
    assert await world.works(old)
    world.now += timedelta(seconds=1)
    assert not await world.works(old)
    assert (await world.reconcile()).tokens[0].previous is None
    assert await world.works(await world.text())


async def test_the_old_token_works_on_until_the_new_one_was_seen_in_use(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    world.now = NOW + 2160 * HOUR
    await world.reconcile()
    world.now += 100 * HOUR
    done = await world.reconcile()
    assert done.tokens[0].previous is not None
    assert done.tokens[0].previous.ends_at == NOW + 2400 * HOUR
    assert await world.works(old)
    await world.use((await world.rows())[1])
    await world.reconcile()
    assert not await world.works(old)


async def test_the_old_token_never_works_past_its_own_expiry(world: World) -> None:
    short = manifest(tokens=[token(ttl="240h", renewBefore="24h", overlap="24h")])
    await world.reconcile(short)
    world.now = NOW + 230 * HOUR
    await world.reconcile(short)
    await world.use((await world.rows())[1])
    done = await world.reconcile(short)
    assert done.tokens[0].previous is not None
    assert done.tokens[0].previous.valid_until == NOW + 240 * HOUR


async def test_an_expired_token_is_replaced(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    world.now = NOW + 2400 * HOUR
    await world.reconcile()
    assert not await world.works(old)
    assert await world.works(await world.text())


async def test_a_shortened_ttl_counts_for_the_living_token(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    world.now = NOW + 48 * HOUR
    await world.reconcile(manifest(tokens=[token(ttl="48h", renewBefore="24h")]))
    assert await world.text() != old


class Killed(Exception):
    """The process dies at this point."""


class KilledVault(vaults.FileVault):
    """Dies before or after it has written."""

    after: bool = False

    async def write_token(self, ref: vaults.TokenRef, text: str, **kw: Any) -> None:
        if self.after:
            await super().write_token(ref, text, **kw)
        raise Killed


async def test_a_crash_before_the_secret_leaves_an_orphan_that_is_revoked(
    world: World, tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        await world.reconcile(vault=KilledVault(tmp_path / "secrets"))
    (orphan,) = await world.rows()
    assert orphan.revoked_at is None
    world.now += timedelta(minutes=1)
    await world.reconcile()
    first, second = await world.rows()
    assert (first.token_id, first.revoked_at, second.revoked_at) == (orphan.token_id, world.now, None)
    assert await world.works(await world.text())


async def test_a_crash_before_the_secret_of_a_renewal_keeps_the_old_token_working(
    world: World, tmp_path: Path
) -> None:
    await world.reconcile()
    old = await world.text()
    world.now = NOW + 2160 * HOUR
    with pytest.raises(Killed):
        await world.reconcile(vault=KilledVault(tmp_path / "secrets"))
    assert await world.works(old)
    world.now += timedelta(minutes=1)
    await world.reconcile()
    first, orphan, third = await world.rows()
    assert (first.revoked_at, orphan.revoked_at, third.revoked_at) == (None, world.now, None)
    assert await world.works(old)
    assert await world.works(await world.text())


async def test_a_crash_after_the_secret_of_a_renewal_goes_on(world: World, tmp_path: Path) -> None:
    await world.reconcile()
    old = await world.text()
    world.now = NOW + 2160 * HOUR
    vault = KilledVault(tmp_path / "secrets")
    vault.after = True
    with pytest.raises(Killed):
        await world.reconcile(vault=vault)
    new = await world.text()
    assert (await world.reconcile()).happenings == ()
    assert await world.text() == new
    assert await world.works(new)
    assert await world.works(old)


async def test_an_old_secret_that_was_put_back_cuts_nobody_off(world: World) -> None:
    await world.reconcile()
    old = await world.text()
    await world.use((await world.rows())[0])
    await world.vault.delete_token(world.ref())
    world.now += HOUR
    await world.reconcile()
    new = await world.text()
    await world.use((await world.rows())[1])
    await world.reconcile()
    await world.vault.write_token(world.ref(), old or "", base_url=None, expires_at=NOW)
    world.now += HOUR
    await world.reconcile()
    assert await world.text() not in (old, new)
    assert await world.works(new)
    assert await world.works(await world.text())


class StrangersVault(vaults.FileVault):
    """Somebody else's Secret has the place of one token."""

    async def read_token(self, ref: vaults.TokenRef, **kw: Any) -> vaults.StoredToken | None:
        if ref.token_name == "okta":
            raise vaults.SecretNotOurs("Secret scim-okta exists and is not ours")
        return await super().read_token(ref, **kw)


async def test_a_strangers_secret_is_a_condition_and_no_hindrance_for_others(
    world: World, tmp_path: Path
) -> None:
    wanted = manifest(tokens=[token(), token("entra")])
    done = await world.reconcile(wanted, vault=StrangersVault(tmp_path / "secrets"))
    issued = done.condition("TokensIssued")
    assert (issued.status, issued.reason) == ("False", "SecretNotOurs")
    assert done.condition("Ready").reason == "SecretNotOurs"
    assert await world.rows("okta") == []
    assert await world.works(await world.text("entra"))


async def test_a_rotation_that_was_asked_for_is_done_once(world: World) -> None:
    await world.reconcile()
    old, (row,) = await world.text(), await world.rows()
    world.now += HOUR
    await tenants.request_rotation(world.database, ACME, row.token_id, world.now)
    done = await world.reconcile()
    new = await world.text()
    assert [happening.reason for happening in done.happenings] == ["TokenRotated"]
    assert new != old
    assert await world.works(old)
    assert await world.works(new)
    assert (await world.reconcile()).happenings == ()
    assert await world.text() == new


@pytest.mark.parametrize(
    ("spec", "sources", "ready", "sso", "stored"),
    [
        pytest.param({}, SOURCES, "Ready", "MetadataValid", (True, True), id="required-and-valid"),
        pytest.param({}, NO_SOURCES, "MetadataMissing", "MetadataMissing", (True, False), id="no-config-map"),
        pytest.param(
            {}, manifests.Bundle((), {}, {("identity", "saml"): {"metadata.xml": b"<a/>"}}),
            "MetadataInvalid", "MetadataInvalid", (True, False), id="invalid",
        ),
        pytest.param(
            {}, with_metadata(-2, -1), "CertificateExpired", "CertificateExpired", (True, False), id="expired"
        ),
        pytest.param({}, with_metadata(-2, 30), "Ready", "CertificateEndsSoon", (True, True), id="ends-soon"),
        pytest.param(
            {}, manifests.Bundle((), {}, {("identity", "saml"): {"other": b""}}),
            "MetadataMissing", "MetadataMissing", (True, False), id="no-key",
        ),
        pytest.param({"sso": {"mode": "Optional"}}, NO_SOURCES, "Ready", "NotConfigured", (False, False),
                     id="optional"),
        pytest.param({"suspend": True}, SOURCES, "Suspended", "MetadataValid", (True, True), id="suspended"),
    ],
)  # fmt: skip
async def test_sso_comes_first(
    world: World, database_urls: DatabaseUrls, spec: dict[str, Any], sources: manifests.Bundle, ready: str,
    sso: str, stored: tuple[bool, bool],
) -> None:  # fmt: skip
    done = await world.reconcile(manifest(**spec), sources=sources)
    assert done.condition("Ready").reason == ready
    assert done.condition("SSOReady").reason == sso
    with psycopg.connect(database_urls.owner) as owner:
        row = owner.execute("SELECT sso_required, sso_ready, suspended FROM tenants").fetchone()
    assert row == (*stored, spec.get("suspend", False))


async def test_a_host_belongs_to_the_tenant_that_had_it_first(world: World) -> None:
    first = manifest(endpoint={"host": "scim.acme.example.com"})
    second = manifest("globex", endpoint={"host": "scim.acme.example.com"})
    assert (await world.reconcile(first)).url == "https://scim.acme.example.com/iam/scim/v2"
    done = await world.reconcile(second)
    assert (done.condition("Conflict").status, done.condition("Ready").reason) == ("True", "HostTaken")
    assert done.url is None
    assert (await world.reconcile(first)).condition("Ready").status == "True"
    await reconciliations.remove("identity", "acme", "Retain", world.vault, world.database, NOW)
    assert (await world.reconcile(second)).condition("Ready").status == "True"


async def test_two_tenants_that_took_a_host_together_leave_it_to_the_older(
    world: World, database_urls: DatabaseUrls
) -> None:
    first, second = (
        manifest(endpoint={"host": "one.example.com"}),
        manifest("globex", endpoint={"host": "two.example.com"}),
    )
    await world.reconcile(first)
    await world.reconcile(second)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("UPDATE tenants SET host = 'same.example.com'")
    same = {"host": "same.example.com"}
    assert (await world.reconcile(manifest("globex", endpoint=same))).condition("Conflict").status == "True"
    assert (await world.reconcile(manifest(endpoint=same))).condition("Conflict").status == "False"


# Deletion.
FILL = """
INSERT INTO resources SELECT t, 'User', gen_random_uuid(), 1, '{}', NULL, NULL, now(), now()
  FROM generate_series(1, 25), unnest(%(tenants)s::uuid[]) t;
INSERT INTO unique_values SELECT tenant, type, 'userName', id::text, id FROM resources;
INSERT INTO lookup_values SELECT tenant, type, 'emails', id::text, id FROM resources;
INSERT INTO members SELECT tenant, id, id, 'User' FROM resources;
INSERT INTO totals SELECT tenant, 'User', count(*) FROM resources GROUP BY tenant;
"""


def fill(urls: DatabaseUrls, *names: str) -> None:
    values = {"tenants": [str(manifests.tenant_id("identity", name)) for name in names]}
    with psycopg.connect(urls.owner) as owner, psycopg.ClientCursor(owner) as cursor:
        cursor.execute(FILL, values)


def left(urls: DatabaseUrls, name: str) -> dict[str, int]:
    tables = ("tenants", "tokens", "drains", *removals.DATA_TABLES)
    with psycopg.connect(urls.owner) as owner:
        counts = {
            table: owner.execute(
                f"SELECT count(*) FROM {table} WHERE tenant = %s".encode(),
                (manifests.tenant_id("identity", name),),
            ).fetchone()
            for table in tables
        }
    return {table: row[0] for table, row in counts.items() if row and row[0]}


async def test_retain_keeps_the_data_revokes_the_tokens_and_adopts_a_tenant_that_comes_back(
    world: World, database_urls: DatabaseUrls
) -> None:
    await world.reconcile()
    fill(database_urls, "acme")
    old = await world.text()
    await reconciliations.remove("identity", "acme", "Retain", world.vault, world.database, NOW)
    assert not await world.works(old)
    assert await world.text() is None
    assert left(database_urls, "acme")["resources"] == 25
    done = await world.reconcile()
    assert (done.figures.users, done.condition("Ready").status) == (25, "True")
    assert not await world.works(old)
    assert await world.works(await world.text())


async def test_delete_removes_every_row_of_this_tenant_alone(
    world: World, database_urls: DatabaseUrls
) -> None:
    await world.reconcile()
    await world.reconcile(manifest("globex"))
    fill(database_urls, "acme", "globex")
    others = left(database_urls, "globex")
    await removals.delete_tenant(world.database, ACME, NOW, batch=10)
    assert left(database_urls, "acme") == {}
    assert left(database_urls, "globex") == others
    await reconciliations.remove("identity", "globex", "Delete", world.vault, world.database, NOW)
    assert left(database_urls, "globex") == {}


async def test_a_deletion_may_be_repeated(world: World) -> None:
    await world.reconcile()
    for _ in range(2):
        await reconciliations.remove("identity", "acme", "Delete", world.vault, world.database, NOW)


async def test_a_deletion_sends_a_drain_away(world: World, database_urls: DatabaseUrls) -> None:
    def epoch() -> int:
        with psycopg.connect(database_urls.owner) as owner:
            row = owner.execute("SELECT epoch FROM drains").fetchone()
        assert row is not None
        return int(row[0])

    await world.reconcile()
    before = epoch()
    await reconciliations.remove("identity", "acme", "Retain", world.vault, world.database, NOW)
    assert epoch() == before + 1


async def test_a_tenant_that_is_made_again_has_epochs_of_its_own(
    world: World, database_urls: DatabaseUrls
) -> None:
    epochs = []
    for _ in range(2):
        await world.reconcile()
        with psycopg.connect(database_urls.owner) as owner:
            row = owner.execute("UPDATE drains SET epoch = epoch + 5 RETURNING epoch").fetchone()
        assert row is not None
        epochs.append(row[0])
        await reconciliations.remove("identity", "acme", "Delete", world.vault, world.database, NOW)
    assert epochs[1] > epochs[0]


# Isolation.
async def test_a_query_without_its_tenant_sees_nothing(world: World, database_urls: DatabaseUrls) -> None:
    await world.reconcile()
    for table in ("tenants", "tokens", "drains"):
        (rows,) = await world.database.fetch(None, (f"SELECT count(*) FROM {table}", ()))
        assert rows[0] == (0,), table
    other = manifests.tenant_id("identity", "globex")
    (row,) = await world.rows()
    await tenants.touch_token(world.database, other, row.token_id, NOW)
    await tenants.revoke_tokens(world.database, other, [row.token_id], NOW)
    (stolen,) = await world.database.fetch(
        other, ("UPDATE tokens SET role = 'reader' WHERE tenant = %s RETURNING 1", (ACME,))
    )
    assert stolen == []
    assert await world.rows() == [row]


async def test_a_store_that_is_away_is_told_by_type(tmp_path: Path) -> None:
    async with databases.Database("postgresql://nobody@127.0.0.1:1/none") as away:
        with pytest.raises(errors.StoreUnavailable):
            await World(away, vaults.FileVault(tmp_path)).reconcile()


# What `usher dev` calls.
async def test_a_bundle_is_applied_and_applied_again(world: World, database_urls: DatabaseUrls) -> None:
    wanted = manifest(tokens=[token("audit", role="reader"), token("okta")])
    bundle = dataclasses.replace(copy.copy(SOURCES), tenants=(wanted,))
    for issued in (True, False):
        (applied,) = await reconciliations.apply_bundle(
            bundle,
            database_url=database_urls.app,
            vault=world.vault,
            base_url="http://127.0.0.1:8000/iam/scim/v2",
        )
        assert (applied.name, applied.namespace, applied.issued) == ("acme", "identity", issued)
        assert applied.base_url == "http://127.0.0.1:8000/iam/scim/v2"
        assert applied.token == await world.text("okta")
        assert applied.token is not None
        assert applied.token not in repr(applied)
        assert applied.ready
