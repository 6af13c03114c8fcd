"""A revocation holds from its acceptance on, whatever waits before it, and leaves the order as it is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from usher_core.embedded.databases import DatabaseUrls
from usher_core.testing import stacks

OFF = {"op": "replace", "path": "active", "value": False}
ON = {"op": "replace", "path": "active", "value": True}


@pytest.fixture
def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> Iterator[stacks.Stack]:
    """An api, and workers that come and go."""
    with stacks.Stack(database_urls.app, redis_url, tmp_path, {"USHER_APPLY_WAIT": "20"}) as started:
        yield started


@pytest.fixture
async def acme(stack: stacks.Stack) -> stacks.Access:
    return await stack.make_tenant()


@pytest.fixture
async def client(acme: stacks.Access) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers, timeout=40) as opened:
        yield opened


async def create(client: httpx.AsyncClient, endpoint: str = "/Users", **body: Any) -> str:
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


def patch(client: httpx.AsyncClient, path: str, *operations: dict[str, Any]) -> asyncio.Task[httpx.Response]:
    """Send a PATCH and go on: its answer comes in its turn."""
    return asyncio.create_task(client.patch(path, json={"Operations": list(operations)}))


async def until(client: httpx.AsyncClient, path: str, name: str, expected: Any) -> dict[str, Any]:
    """Read until an attribute is what it must become."""
    for _ in range(400):
        shown: dict[str, Any] = (await client.get(path)).json()
        if shown.get(name) == expected:
            return shown
        await asyncio.sleep(0.02)
    raise AssertionError(f"{path}: {name} did not become {expected!r}")


def events(urls: DatabaseUrls) -> list[tuple[int, str]]:
    with psycopg.connect(urls.owner) as owner:
        return owner.execute("SELECT number, kind FROM events ORDER BY number").fetchall()


def left(urls: DatabaseUrls) -> tuple[int, int]:
    """Count what still stands: fences, and changes in the inbox."""
    with psycopg.connect(urls.owner) as owner:
        row = owner.execute("SELECT (SELECT count(*) FROM fences), (SELECT count(*) FROM inbox)").fetchone()
    assert row is not None
    return row


async def test_a_deactivation_is_effective_before_its_turn_and_older_changes_do_not_undo_it(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = await create(client, userName="ada@x.io", title="Countess")
    before = await client.get(f"/Users/{ada}?excludedAttributes=groups")
    stack.kill_worker()
    older = patch(client, f"/Users/{ada}", ON, {"op": "replace", "path": "title", "value": "Lady"})
    await asyncio.sleep(0.2)
    turn = patch(client, f"/Users/{ada}", OFF)
    shown = await until(client, f"/Users/{ada}", "active", False)
    assert (shown["title"], shown["meta"]["version"]) == ("Countess", 'W/"1.fenced"')
    assert not turn.done()
    for query, found in (("active eq true", 0), ("active eq false", 1), ('userName eq "ada@x.io"', 1)):
        assert (await client.get("/Users", params={"filter": query})).json()["totalResults"] == found
    tag = before.headers["etag"]
    fenced = await client.get(f"/Users/{ada}?excludedAttributes=groups", headers={"If-None-Match": tag})
    assert fenced.status_code == 200, "the effective state is another one than the version says"
    assert [kind for _, kind in events(database_urls)] == ["create", "revoke"]
    metrics = (await client.get(f"http://127.0.0.1:{stack.port}/metrics")).text
    assert "usher_time_to_revoke_seconds_count 1.0" in metrics.splitlines()
    stack.start_worker()
    assert [(await task).status_code for task in (older, turn)] == [200, 200]
    shown = (await client.get(f"/Users/{ada}")).json()
    assert (shown["title"], shown["active"], shown["meta"]["version"]) == ("Lady", False, 'W/"3"')
    assert events(database_urls) == [(1, "create"), (2, "revoke"), (3, "patch"), (4, "patch")]
    assert left(database_urls) == (0, 0)


async def test_a_deleted_user_reads_as_inactive_until_its_turn_and_its_name_is_taken(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = await create(client, userName="ada@x.io")
    stack.kill_worker()
    gone = asyncio.create_task(client.delete(f"/Users/{ada}"))
    await until(client, f"/Users/{ada}", "active", False)
    again = asyncio.create_task(client.post("/Users", json={"userName": "ada@x.io"}))
    await asyncio.sleep(0.2)
    assert (await client.get("/Users")).json()["totalResults"] == 1
    stack.start_worker()
    assert ((await gone).status_code, (await again).status_code) == (204, 201)
    assert (await client.get(f"/Users/{ada}")).status_code == 404
    assert left(database_urls) == (0, 0)


async def test_a_removed_member_is_out_of_every_view_before_its_turn(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada, bob = [await create(client, userName=f"{name}@x.io") for name in ("ada", "bob")]
    inner = await create(client, "/Groups", displayName="Inner", members=[{"value": ada}, {"value": bob}])
    outer = await create(client, "/Groups", displayName="Outer", members=[{"value": inner}])
    stack.kill_worker()
    turn = patch(client, f"/Groups/{inner}", {"op": "remove", "path": f'members[value eq "{ada}"]'})
    await until(client, f"/Users/{ada}", "groups", None)
    shown = await client.get(f"/Groups/{inner}")
    assert [member["value"] for member in shown.json()["members"]] == [bob]
    assert shown.headers["etag"] == 'W/"1.fenced"'
    for query, endpoint, found in (
        (f'members.value eq "{ada}"', "/Groups", 0),
        (f'members[value eq "{ada}"]', "/Groups", 0),
        (f'members.value eq "{bob}"', "/Groups", 1),
        (f'groups.value eq "{inner}"', "/Users", 1),
        (f'groups.value eq "{outer}"', "/Users", 1),
    ):
        answer = await client.get(endpoint, params={"filter": query})
        assert answer.json()["totalResults"] == found, query
    stack.start_worker()
    assert (await turn).status_code == 204
    assert left(database_urls) == (0, 0)


async def test_a_revocation_that_fails_in_its_turn_gives_the_access_back_and_says_so(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = await create(client, userName="ada@x.io")
    await create(client, userName="bob@x.io")
    stack.kill_worker()
    rename = {"op": "replace", "path": "userName", "value": "bob@x.io"}
    turn = patch(client, f"/Users/{ada}", rename, OFF)
    await until(client, f"/Users/{ada}", "active", False)
    stack.start_worker()
    assert (await turn).status_code == 409
    await until(client, f"/Users/{ada}", "active", True)
    assert [kind for _, kind in events(database_urls)] == ["create", "create", "revoke", "unrevoke"]
    assert left(database_urls) == (0, 0)


@pytest.mark.parametrize("kind", ["bulk", "put"])
async def test_a_revocation_holds_at_once_whatever_it_comes_in(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls, kind: str
) -> None:
    ada = await create(client, userName="ada@x.io")
    body = {"userName": "ada@x.io", "active": False}
    stack.kill_worker()
    if kind == "put":
        turn = asyncio.create_task(client.put(f"/Users/{ada}", json=body))
    else:
        operations = [{"method": "PUT", "path": f"/Users/{ada}", "data": body}]
        turn = asyncio.create_task(client.post("/Bulk", json={"Operations": operations}))
    await until(client, f"/Users/{ada}", "active", False)
    stack.start_worker()
    assert (await turn).status_code == 200
    assert left(database_urls) == (0, 0)


async def test_a_change_at_one_version_waits_for_its_turn(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = await create(client, userName="ada@x.io")
    stack.kill_worker()
    body = {"Operations": [OFF]}
    turn = asyncio.create_task(client.patch(f"/Users/{ada}", json=body, headers={"If-Match": 'W/"1"'}))
    await asyncio.sleep(0.5)
    assert (await client.get(f"/Users/{ada}")).json()["active"] is True
    assert left(database_urls) == (0, 0)
    stack.start_worker()
    assert (await turn).status_code == 200


async def test_a_suspended_tenant_takes_revocations_and_nothing_else(
    stack: stacks.Stack, acme: stacks.Access, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = await create(client, userName="ada@x.io")

    async def suspend(config: str) -> None:
        with psycopg.connect(database_urls.owner) as owner:
            owner.execute("UPDATE tenants SET suspended = true, config = config || %s::jsonb", (config,))
        await asyncio.sleep(1.1)  # what is known of a tenant is believed for a second

    await suspend('{"suspend_revocations": false}')
    assert (await client.get(f"/Users/{ada}")).status_code == 403
    assert (await client.post("/Users", json={"userName": "bob@x.io"})).status_code == 403
    assert (await patch(client, f"/Users/{ada}", ON)).status_code == 403
    bob = {"method": "POST", "path": "/Users", "bulkId": "1", "data": {"userName": "bob@x.io"}}
    off = {"method": "PATCH", "path": f"/Users/{ada}", "data": {"Operations": [OFF]}}
    assert (await client.post("/Bulk", json={"Operations": [bob, off]})).status_code == 403
    assert (await client.post("/Bulk", json={"Operations": [off]})).status_code == 200
    assert (await patch(client, f"/Users/{ada}", OFF)).status_code == 200
    await suspend('{"suspend_revocations": true}')
    refused = await client.delete(f"/Users/{ada}")
    assert (refused.status_code, "suspended" in refused.json()["detail"]) == (403, True)
