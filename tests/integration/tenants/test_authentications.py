"""Who a request comes from, asked of a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from usher_core import errors
from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import databases, tenants
from usher_core.tenants import authentications, configs, manifests, tokens

HOUR = timedelta(hours=1)


class CountingDatabase(databases.Database):
    """The real one; counts the queries that it is asked for."""

    queries = 0

    async def fetch(self, *args: Any) -> Any:
        self.queries += 1
        return await super().fetch(*args)


@pytest.fixture
async def counted(database_urls: DatabaseUrls) -> AsyncIterator[CountingDatabase]:
    async with CountingDatabase(database_urls.app) as opened:
        yield opened


@pytest.fixture
async def authenticator(counted: CountingDatabase) -> AsyncIterator[authentications.Authenticator]:
    made = authentications.Authenticator(counted)
    yield made
    await made.close()


@contextlib.contextmanager
def rejected(kind: type[errors.ScimError], words: str) -> Any:
    with pytest.raises(kind) as refused:
        yield
    assert words in refused.value.detail
    if kind is errors.Unauthenticated:
        assert "Authorization: Bearer <token of this tenant>" in refused.value.detail


async def make_tenant(database: databases.Database, name: str = "acme", **fields: Any) -> str:
    """Store a tenant and one administrator token; return the header."""
    given = {
        "display_name": None, "host": None, "suspended": False, "sso_required": True, "sso_ready": True,
        "sso_message": "", "config": {}, **fields,
    }  # fmt: skip
    tenant = manifests.tenant_id("identity", name)
    await tenants.put_tenant(database, tenants.TenantRow(tenant, "identity", name, **given))
    issued = tokens.issue("okta", "administrator", 24 * HOUR, datetime.now(UTC))
    await tenants.insert_token(database, tenant, issued.record)
    return f"Bearer {issued.text}"


def change(urls: DatabaseUrls, statement: str) -> None:
    with psycopg.connect(urls.owner) as owner:
        owner.execute(statement.encode())


async def test_a_good_token_tells_its_tenant(
    authenticator: authentications.Authenticator, database: databases.Database
) -> None:
    config = configs.TenantConfig(requests_per_second=7)
    header = await make_tenant(database, config=configs.to_document(config))
    principal = await authenticator.authenticate(header, "scim.example.com")
    assert principal.tenant == manifests.tenant_id("identity", "acme")
    assert (principal.tenant_name, principal.namespace, principal.host) == ("acme", "identity", None)
    assert (principal.token_name, principal.role) == ("okta", "administrator")
    assert principal.token_id == header.split("_")[1]
    assert principal.config == config
    principal.require_writer()


async def test_a_reader_may_not_write(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls
) -> None:
    header = await make_tenant(database)
    change(database_urls, "UPDATE tokens SET role = 'reader'")
    principal = await authenticator.authenticate(header, None)
    with rejected(errors.Forbidden, "has the role reader"):
        principal.require_writer()


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        pytest.param("DELETE FROM tokens", "unknown", id="unknown"),
        pytest.param("UPDATE tokens SET digest = sha256('x')", "unknown", id="another-secret-under-the-id"),
        pytest.param(
            "UPDATE tokens SET issued_at = '2025-01-01Z', expires_at = '2025-06-01T10:00:00Z'",
            "'okta' expired at 2025-06-01T10:00:00Z", id="expired",
        ),
        pytest.param(
            "UPDATE tokens SET valid_until = '2025-06-01T10:00:00Z'",
            "'okta' was replaced by a new one and ended at 2025-06-01T10:00:00Z", id="overlap-over",
        ),
        pytest.param(
            "UPDATE tokens SET revoked_at = '2025-06-01T10:00:00Z'",
            "'okta' was revoked at 2025-06-01T10:00:00Z", id="revoked",
        ),
        pytest.param("UPDATE tokens SET revoked_at = now() + interval '1h'", "was revoked", id="fast-clock"),
        pytest.param("UPDATE tenants SET deleted_at = now()", "tenant was deleted", id="deleted-tenant"),
    ],
)  # fmt: skip
async def test_a_token_that_does_not_work_is_401(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls,
    statement: str, words: str,
) -> None:  # fmt: skip
    header = await make_tenant(database)
    change(database_urls, statement)
    with rejected(errors.Unauthenticated, words):
        await authenticator.authenticate(header, None)


async def test_nothing_is_told_about_a_token_to_who_only_knows_its_id(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls
) -> None:
    header = await make_tenant(database)
    change(database_urls, "UPDATE tokens SET revoked_at = now(), digest = sha256('x')")
    with rejected(errors.Unauthenticated, "the bearer token is unknown;"):
        await authenticator.authenticate(header, None)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param({"sso_ready": False, "sso_message": "configure SAML"}, "configure SAML", id="sso"),
        pytest.param({"sso_ready": False}, "SAML SSO is required", id="sso-without-message"),
        pytest.param({"config": {"host_taken": True}}, "is taken by another tenant", id="host-taken"),
    ],
)
async def test_a_good_token_of_a_tenant_that_is_not_ready_is_403(
    authenticator: authentications.Authenticator,
    database: databases.Database,
    fields: dict[str, Any],
    words: str,
) -> None:
    header = await make_tenant(database, **fields)
    with rejected(errors.Forbidden, words):
        await authenticator.authenticate(header, None)


async def test_a_suspended_tenant_is_known_by_its_principal(
    authenticator: authentications.Authenticator, database: databases.Database
) -> None:
    header = await make_tenant(database, suspended=True)
    principal = await authenticator.authenticate(header, None)
    assert "suspended" in (principal.suspension or "")


async def test_sso_that_is_optional_may_be_missing(
    authenticator: authentications.Authenticator, database: databases.Database
) -> None:
    header = await make_tenant(database, sso_required=False, sso_ready=False)
    assert await authenticator.authenticate(header, None)


OWN, SHARED = "scim.acme.example.com", "scim.example.com"


@pytest.mark.parametrize(
    ("tenant", "host", "allowed"),
    [
        pytest.param("with-host", OWN, True, id="at-its-own-host"),
        pytest.param("with-host", f"{OWN}:8443", True, id="with-a-port"),
        pytest.param("with-host", "SCIM.Acme.Example.COM.", True, id="in-any-case"),
        pytest.param("with-host", SHARED, False, id="not-at-the-shared-host"),
        pytest.param("with-host", None, False, id="not-without-a-host"),
        pytest.param("without-host", SHARED, True, id="at-the-shared-host"),
        pytest.param("without-host", "[::1]:8000", True, id="at-an-address"),
        pytest.param("without-host", None, True, id="without-a-host"),
        pytest.param("without-host", OWN, False, id="not-at-another-tenants-host"),
        pytest.param("without-host", f"{OWN}:443", False, id="not-there-with-a-port-either"),
    ],
)
async def test_a_host_belongs_to_its_tenant(
    authenticator: authentications.Authenticator, database: databases.Database, tenant: str, host: str | None,
    allowed: bool,
) -> None:  # fmt: skip
    headers = {
        "with-host": await make_tenant(database, "acme", host=OWN),
        "without-host": await make_tenant(database, "globex"),
    }
    if allowed:
        assert await authenticator.authenticate(headers[tenant], host)
    else:
        with rejected(errors.Unauthenticated, "host"):
            await authenticator.authenticate(headers[tenant], host)


async def test_a_host_that_nobody_names_any_more_is_everybodys(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls
) -> None:
    await make_tenant(database, "acme", host=OWN)
    header = await make_tenant(database, "globex")
    change(database_urls, "UPDATE tenants SET deleted_at = now() WHERE host IS NOT NULL")
    assert await authenticator.authenticate(header, OWN)


async def test_a_store_that_is_away_is_503_and_never_401() -> None:
    text = tokens.issue("okta", "administrator", HOUR, datetime.now(UTC)).text
    async with databases.Database("postgresql://nobody@127.0.0.1:1/none") as away:
        with pytest.raises(errors.Unavailable) as refused:
            await authentications.Authenticator(away).authenticate(f"Bearer {text}", "scim.example.com")
    assert refused.value.retry_after >= 1


async def test_a_burst_makes_one_query_and_a_second_of_silence(
    authenticator: authentications.Authenticator, counted: CountingDatabase, database: databases.Database,
    database_urls: DatabaseUrls,
) -> None:  # fmt: skip
    header = await make_tenant(database)
    change(database_urls, "UPDATE tokens SET last_used_at = now()")
    await asyncio.gather(*(authenticator.authenticate(header, None) for _ in range(100)))
    await authenticator.authenticate(header, None)
    assert counted.queries == 1


async def test_unknown_tokens_are_remembered_too(
    authenticator: authentications.Authenticator, counted: CountingDatabase
) -> None:
    header = f"Bearer {tokens.issue('okta', 'administrator', HOUR, datetime.now(UTC)).text}"
    for _ in range(5):
        with rejected(errors.Unauthenticated, "unknown"):
            await authenticator.authenticate(header, None)
    assert counted.queries == 1


async def test_a_malformed_token_costs_no_query(
    authenticator: authentications.Authenticator, counted: CountingDatabase
) -> None:
    with rejected(errors.Unauthenticated, "damaged"):
        await authenticator.authenticate("Bearer usher_abc", None)
    assert counted.queries == 0


async def test_a_revocation_is_believed_within_a_second(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls
) -> None:
    header = await make_tenant(database)
    await authenticator.authenticate(header, None)
    change(database_urls, "UPDATE tokens SET revoked_at = now()")
    await asyncio.sleep(1.05)
    with rejected(errors.Unauthenticated, "revoked"):
        await authenticator.authenticate(header, None)


async def test_a_client_that_hangs_up_takes_the_look_up_from_nobody(
    authenticator: authentications.Authenticator, database: databases.Database
) -> None:
    header = await make_tenant(database)
    first = asyncio.create_task(authenticator.authenticate(header, None))
    second = asyncio.create_task(authenticator.authenticate(header, None))
    await asyncio.sleep(0)
    first.cancel()
    assert await second


def last_used(urls: DatabaseUrls) -> datetime | None:
    with psycopg.connect(urls.owner) as owner:
        row = owner.execute("SELECT last_used_at FROM tokens").fetchone()
        return row[0] if row else None


async def test_a_use_is_noted_at_once_and_then_each_minute(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    header = await make_tenant(database)
    await authenticator.authenticate(header, None)
    await authenticator.close()
    first = last_used(database_urls)
    assert first is not None
    assert abs(datetime.now(UTC) - first) < timedelta(seconds=5)
    await authenticator.authenticate(header, None)
    await authenticator.close()
    assert last_used(database_urls) == first
    later = time.time() + authentications.TOUCH_EVERY
    monkeypatch.setattr("usher_core.tenants.authentications.time.time", lambda: later)
    await authenticator.authenticate(header, None)
    await authenticator.close()
    assert last_used(database_urls) == datetime.fromtimestamp(later, UTC)


async def test_a_use_is_noted_of_a_tenant_that_is_not_ready_too(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls
) -> None:
    header = await make_tenant(database, sso_ready=False)
    with rejected(errors.Forbidden, "SAML"):
        await authenticator.authenticate(header, None)
    await authenticator.close()
    assert last_used(database_urls) is not None


async def test_a_use_that_cannot_be_noted_fails_no_request(
    authenticator: authentications.Authenticator, database: databases.Database, database_urls: DatabaseUrls
) -> None:
    header = await make_tenant(database)
    # The row is locked: the note runs into the statement time-out, the request does not wait for it.
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("SELECT FROM tokens FOR UPDATE")
        started = time.monotonic()
        assert await authenticator.authenticate(header, None)
        assert time.monotonic() - started < 1
        await authenticator.close()
    assert last_used(database_urls) is None


async def test_a_cached_look_up_takes_microseconds(
    authenticator: authentications.Authenticator, database: databases.Database
) -> None:
    header = await make_tenant(database)
    await authenticator.authenticate(header, "scim.example.com")
    best = 1.0
    for _ in range(5):
        started = time.perf_counter()
        for _ in range(1000):
            await authenticator.authenticate(header, "scim.example.com")
        best = min(best, (time.perf_counter() - started) / 1000)
    # 4 µs on an idle machine; this only catches what is wrong by an order of magnitude.
    assert best < 50e-6
