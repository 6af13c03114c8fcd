"""Behind a trusted proxy every URL in an answer is the one that the client knows; others are not believed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from usher_core.testing import servers, stacks

PUBLIC = "https://scim.example.com/iam/scim/v2"
FORWARDED = [
    pytest.param({"Forwarded": "for=192.0.2.6;proto=https;host=scim.example.com"}, id="Forwarded"),
    pytest.param({"X-Forwarded-For": "192.0.2.6", "X-Forwarded-Proto": "https",
                  "X-Forwarded-Host": "scim.example.com"}, id="X-Forwarded"),
]  # fmt: skip


@pytest.fixture(scope="module")
def behind(
    running: servers.Servers, stack: stacks.Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[stacks.Stack]:
    """One more api on the same tenants; it trusts who connects from this machine."""
    redis_url = running.redis_url.rpartition("/")[0] + "/15"
    env = {"USHER_TRUSTED_PROXIES": "192.0.2.1, 127.0.0.0/8"}
    second = stacks.Stack(stack.database_url, redis_url, tmp_path_factory.mktemp("behind"), env)
    try:
        second.start_api()
        yield second
    finally:
        second.stop()


def urls(value: Any, name: str = "") -> Iterator[str]:
    """List the URLs in a body: locations and references."""
    if isinstance(value, dict):
        for key, held in value.items():
            yield from urls(held, key)
    elif isinstance(value, list):
        for held in value:
            yield from urls(held)
    elif name in ("location", "$ref"):
        yield value


async def walk(client: httpx.AsyncClient) -> list[str]:
    """Create a user and a group, read them in every way, and list all URLs of the answers."""
    made = await client.post("/Users", json={"userName": "ada@x.io"})
    assert made.status_code == 201, made.text
    ada = made.json()["id"]
    members = {"displayName": "Team", "members": [{"value": ada}]}
    group = await client.post("/Groups", json=members)
    assert group.status_code == 201, group.text
    listed = await client.get("/Users?cursor&count=1")
    answers = [
        made, group, listed,
        await client.get(f"/Users/{ada}"),
        await client.put(f"/Users/{ada}", json={"userName": "ada@x.io", "title": "Countess"}),
        await client.get("/Groups"),
        await client.post("/.search", json={"count": 5}),
        await client.get("/ServiceProviderConfig"),
        await client.get("/ResourceTypes"),
        await client.get("/Schemas"),
    ]  # fmt: skip
    found = [made.headers["location"], group.headers["location"]]
    for answer in answers:
        within = list(urls(answer.json()))
        assert within, answer.text
        found += within
    assert any(url.endswith(f"/Users/{ada}") for url in urls(group.json()["members"]))
    assert any("/Groups/" in url for url in urls(answers[3].json()["groups"]))
    return found


@pytest.mark.parametrize("headers", FORWARDED)
async def test_every_url_is_the_one_that_the_client_knows(
    behind: stacks.Stack, acme: stacks.Access, headers: dict[str, str]
) -> None:
    async with httpx.AsyncClient(base_url=behind.base_url, headers=acme.headers | headers) as client:
        found = await walk(client)
    assert [url for url in found if not url.startswith(f"{PUBLIC}/")] == []


@pytest.mark.parametrize("headers", FORWARDED)
async def test_a_peer_that_is_not_trusted_is_not_believed(
    stack: stacks.Stack, acme: stacks.Access, headers: dict[str, str]
) -> None:
    async with httpx.AsyncClient(base_url=stack.base_url, headers=acme.headers | headers) as client:
        found = await walk(client)
    assert [url for url in found if not url.startswith(f"{stack.base_url}/")] == []


async def test_a_tenant_is_told_by_the_host_that_was_forwarded(
    behind: stacks.Stack, stack: stacks.Stack
) -> None:
    own, other = await stack.make_tenant("own"), await stack.make_tenant("other")
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(own.tenant),))
        app.execute("UPDATE tenants SET host = 'own.example.com' WHERE tenant = %s", (own.tenant,))
    at_own = {"X-Forwarded-Host": "own.example.com", "X-Forwarded-Proto": "https"}
    async with httpx.AsyncClient() as client:

        async def ask(at: stacks.Stack, access: stacks.Access, headers: dict[str, str]) -> httpx.Response:
            return await client.get(f"{at.base_url}/ResourceTypes", headers=access.headers | headers)

        shown = await ask(behind, own, at_own)
        assert shown.status_code == 200
        assert all(url.startswith("https://own.example.com/") for url in urls(shown.json()))
        assert (await ask(behind, other, at_own)).status_code == 401
        assert (await ask(behind, own, {})).status_code == 401
        assert (await ask(behind, other, {})).status_code == 200
        # Where nobody is trusted the header changes nothing.
        assert (await ask(stack, own, at_own)).status_code == 401
        assert (await ask(stack, other, at_own)).status_code == 200


async def test_a_host_that_is_none_is_a_400(stack: stacks.Stack, acme: stacks.Access) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{stack.base_url}/Users", headers=acme.headers | {"Host": "a/b"})
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidSyntax")
    assert "Host" in answer.json()["detail"]
