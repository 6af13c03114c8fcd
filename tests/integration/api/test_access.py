"""Who may do what: only bearer tokens, only of the tenant, only while they live; refusals say why."""

from __future__ import annotations

import datetime
import itertools
from collections.abc import AsyncIterator
from typing import Any

import httpx
import psycopg
import pytest

from usher_core.store import databases, tenants
from usher_core.tenants import tokens
from usher_core.testing import stacks

NOW = datetime.datetime.now(datetime.UTC)
NEVER_STORED = tokens.issue("x", "administrator", datetime.timedelta(days=1), NOW)


@pytest.fixture
async def store(stack: stacks.Stack) -> AsyncIterator[databases.Database]:
    async with databases.Database(stack.database_url, application="test") as opened:
        yield opened


@pytest.mark.parametrize(
    ("authorization", "told"),
    [
        pytest.param(None, "Bearer", id="none"),
        pytest.param("Basic b2t0YTpzZWNyZXQ=", "Basic", id="Basic"),
        pytest.param("Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "OAuth", id="a JWT"),
        pytest.param("Bearer usher_nonsense", "token", id="of the wrong form"),
        pytest.param(f"Bearer {NEVER_STORED.text}", "unknown", id="unknown"),
    ],
)  # fmt: skip
async def test_a_401_says_what_is_expected(stack: stacks.Stack, authorization: str | None, told: str) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{stack.base_url}/Users", headers=headers)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("form", ["bearer {}", "BEARER   {}", "{}"])
async def test_the_scheme_is_read_with_lenience(acme: stacks.Access, form: str) -> None:
    async with httpx.AsyncClient() as client:
        headers = {"Authorization": form.format(acme.token)}
        assert (await client.get(f"{acme.base_url}/Users", headers=headers)).status_code == 200


async def test_a_reader_may_read_but_not_write(stack: stacks.Stack) -> None:
    reader = await stack.make_tenant(role="reader")
    async with httpx.AsyncClient(base_url=reader.base_url, headers=reader.headers) as client:
        assert (await client.get("/Users")).status_code == 200
        answer = await client.post("/Users", json={"userName": "a@x.io"})
        assert answer.status_code == 403
        assert "reader" in answer.json()["detail"]


async def test_an_expired_token_says_since_when(
    stack: stacks.Stack, acme: stacks.Access, store: databases.Database
) -> None:
    long_ago = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    issued = tokens.issue("old", "administrator", datetime.timedelta(days=30), long_ago)
    await tenants.insert_token(store, acme.tenant, issued.record)
    async with httpx.AsyncClient() as client:
        answer = await client.get(
            f"{stack.base_url}/Users", headers={"Authorization": f"Bearer {issued.text}"}
        )
    assert answer.status_code == 401
    assert "2026-01-31" in answer.json()["detail"]


async def test_a_tenant_without_its_required_sso_is_refused_in_words(
    stack: stacks.Stack, acme: stacks.Access
) -> None:
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(acme.tenant),))
        app.execute("UPDATE tenants SET sso_required = true, sso_ready = false, sso_message = ''")
    async with httpx.AsyncClient(headers=acme.headers) as client:
        answer = await client.get(f"{acme.base_url}/Users")
    assert answer.status_code == 403
    assert "SAML SSO" in answer.json()["detail"]


async def test_no_route_shows_or_changes_what_is_another_tenants(stack: stacks.Stack) -> None:
    mine, theirs = await stack.make_tenant("mine"), await stack.make_tenant("theirs")
    user: dict[str, Any] = {"userName": "ada@x.io", "externalId": "e", "emails": [{"value": "ada@x.io"}]}
    async with httpx.AsyncClient(base_url=theirs.base_url, headers=theirs.headers) as their_client:
        ada = (await their_client.post("/Users", json=user)).json()
        group = (
            await their_client.post("/Groups", json={"displayName": "G", "members": [{"value": ada["id"]}]})
        ).json()
        before = [(await their_client.get(path)).json() for path in ("/Users", "/Groups")]
        async with httpx.AsyncClient(base_url=mine.base_url, headers=mine.headers) as client:
            patch = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"],
                     "Operations": [{"op": "replace", "path": "displayName", "value": "mine"}]}  # fmt: skip
            for endpoint, one, body in (("Users", ada, user), ("Groups", group, {"displayName": "mine"})):
                path = f"/{endpoint}/{one['id']}"
                answers = [
                    await client.get(path),
                    await client.put(path, json=body),
                    await client.patch(path, json=patch),
                    await client.delete(path),
                ]
                assert [answer.status_code for answer in answers] == [404] * 4
            filters = ['userName eq "ada@x.io"', 'externalId eq "e"', 'emails.value eq "ada@x.io"',
                       f'id eq "{ada["id"]}"', 'displayName eq "G"']  # fmt: skip
            for endpoint, text in itertools.product(("Users", "Groups"), filters):
                if endpoint == "Groups" and text.startswith(("userName", "emails")):
                    continue
                found = await client.get(f"/{endpoint}", params={"filter": text})
                assert found.json()["totalResults"] == 0, text
            assert (await client.get("/Users")).json()["totalResults"] == 0
            # Their user is nobody here, so it can't be a member; its name is free here.
            taken = await client.post("/Groups", json={"displayName": "H", "members": [{"value": ada["id"]}]})
            assert taken.status_code == 400
            assert (await client.post("/Users", json=user)).status_code == 201
        after = [(await their_client.get(path)).json() for path in ("/Users", "/Groups")]
    assert after == before


async def test_neither_a_token_nor_a_password_nor_a_value_is_logged_or_kept(
    stack: stacks.Stack, acme: stacks.Access
) -> None:
    canary = "canary-passw0rd-5f1"
    async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers) as client:
        user = {"userName": "canary.person@x.io", "password": canary, "title": "canary-title"}
        made = (await client.post("/Users", json=user)).json()
        patch = [{"op": "replace", "path": "password", "value": canary},
                 {"op": "replace", "value": {"password": canary}}]  # fmt: skip
        body = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": patch}
        assert (await client.patch(f"/Users/{made['id']}", json=body)).status_code == 200
        assert (await client.put(f"/Users/{made['id']}", json=user)).status_code == 200
    logged = stack.log("api") + stack.log("worker-0")
    assert '"change":"' in logged
    for secret in (acme.token, canary, "canary-title", "canary.person"):
        assert secret not in logged
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(acme.tenant),))
        kept = app.execute(
            "SELECT string_agg(r::text, '') FROM (SELECT c::text AS r FROM change_log c"
            " UNION ALL SELECT r::text FROM resources r UNION ALL SELECT k::text FROM tokens k) x"
        ).fetchone()
    assert kept is not None
    assert "canary-title" in kept[0]
    assert canary not in kept[0]
    assert acme.token not in kept[0]
