"""A tenant that asks for more than its manifest allows is told when to come again; revocations pass."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from usher_core.embedded.databases import DatabaseUrls
from usher_core.testing import servers, stacks

OFF = {"Operations": [{"op": "replace", "path": "active", "value": False}]}


@pytest.fixture
def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> Iterator[stacks.Stack]:
    with stacks.Stack(database_urls.app, redis_url, tmp_path, {"USHER_APPLY_WAIT": "1"}) as started:
        yield started


@pytest.fixture
async def client(stack: stacks.Stack) -> AsyncIterator[httpx.AsyncClient]:
    acme = await stack.make_tenant()
    async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers, timeout=40) as opened:
        yield opened


async def configure(urls: DatabaseUrls, **limits: int) -> None:
    with psycopg.connect(urls.owner) as owner:
        owner.execute("UPDATE tenants SET config = config || %s::jsonb", (json.dumps(limits),))
    await asyncio.sleep(1.1)  # what is known of a tenant is believed for a second


def is_told_to_wait(answer: httpx.Response, status: int, words: str) -> bool:
    if answer.status_code != status:
        return False
    body = answer.json()
    return (
        body["status"] == str(status) and words in body["detail"] and int(answer.headers["retry-after"]) >= 1
    )


async def test_writes_are_limited_and_revocations_are_not(
    client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()["id"]
    await configure(database_urls, requests_per_second=1)
    answers = [await client.post("/Users", json={"userName": f"{n}@x.io"}) for n in range(4)]
    assert any(is_told_to_wait(answer, 429, "requestsPerSecond") for answer in answers)
    assert (await client.patch(f"/Users/{ada}", json=OFF)).status_code == 200
    assert (await client.get(f"/Users/{ada}")).status_code == 200, "reads have a limit of their own"


async def test_a_bulk_costs_as_much_as_its_operations(
    client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    await configure(database_urls, requests_per_second=5)
    operations = [
        {"method": "POST", "path": "/Users", "bulkId": str(n), "data": {"userName": f"{n}@x.io"}}
        for n in range(50)
    ]
    assert (await client.post("/Bulk", json={"Operations": operations})).status_code == 200
    refused = await client.post("/Users", json={"userName": "ada@x.io"})
    assert is_told_to_wait(refused, 429, "requestsPerSecond")
    assert int(refused.headers["retry-after"]) > 1


async def test_a_bulk_is_refused_unless_all_of_it_takes_away(
    client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()["id"]
    await configure(database_urls, requests_per_second=1)
    create = {"method": "POST", "path": "/Users", "bulkId": "1", "data": {"userName": "bob@x.io"}}
    delete = {"method": "DELETE", "path": f"/Users/{uuid.uuid4()}"}
    for _ in range(3):
        refused = await client.post("/Bulk", json={"Operations": [create, delete]})
    assert is_told_to_wait(refused, 429, "requestsPerSecond")
    off = {"method": "PATCH", "path": f"/Users/{ada}", "data": OFF}
    answer = await client.post("/Bulk", json={"Operations": [off, delete]})
    assert [one["status"] for one in answer.json()["Operations"]] == ["200", "404"]


async def test_revocations_are_charged_for(client: httpx.AsyncClient, database_urls: DatabaseUrls) -> None:
    ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()["id"]
    await configure(database_urls, requests_per_second=2)
    for _ in range(20):
        assert (await client.patch(f"/Users/{ada}", json=OFF)).status_code == 200
    refused = await client.post("/Users", json={"userName": "bob@x.io"})
    assert is_told_to_wait(refused, 429, "requestsPerSecond")


async def test_reads_are_limited(client: httpx.AsyncClient, database_urls: DatabaseUrls) -> None:
    await configure(database_urls, reads_per_second=1)
    answers = [await client.get("/Users") for _ in range(4)]
    assert any(is_told_to_wait(answer, 429, "readsPerSecond") for answer in answers)


async def test_more_pending_changes_than_allowed_are_refused_and_revocations_are_not(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()["id"]
    await configure(database_urls, max_pending_changes=1)
    stack.kill_worker()
    assert (await client.post("/Users", json={"userName": "bob@x.io"})).status_code == 503
    assert is_told_to_wait(
        await client.post("/Users", json={"userName": "eve@x.io"}), 429, "maxPendingChanges"
    )
    await client.patch(f"/Users/{ada}", json=OFF)
    assert (await client.get(f"/Users/{ada}")).json()["active"] is False
    stack.start_worker()


async def test_a_full_queue_takes_nothing_on_but_revocations_and_empties_itself(
    database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    with servers.ValkeyServer(tmp_path / "valkey") as valkey:
        env = {"USHER_APPLY_WAIT": "30"}
        (tmp_path / "stack").mkdir()
        with stacks.Stack(database_urls.app, valkey.url, tmp_path / "stack", env) as stack:
            acme = await stack.make_tenant()
            async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers, timeout=60) as client:
                ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()["id"]
                stack.kill_worker()
                waiting = asyncio.create_task(client.post("/Users", json={"userName": "bob@x.io"}))
                await asyncio.sleep(0.3)
                queue = redis.Redis.from_url(valkey.url)
                queue.config_set("maxmemory", 1_000_000)  # less than an empty server uses
                await asyncio.sleep(1.5)  # the api looks every second
                refused = await client.post("/Users", json={"userName": "eve@x.io"})
                assert is_told_to_wait(refused, 503, "nearly full")
                out = asyncio.create_task(client.patch(f"/Users/{ada}", json=OFF))
                for _ in range(100):
                    shown = (await client.get(f"/Users/{ada}")).json()
                    if shown["active"] is False:
                        break
                    await asyncio.sleep(0.05)
                assert shown["active"] is False
                # The worker can't be told of a job, and needs none.
                stack.start_worker()
                for _ in range(400):
                    listed = (await client.get("/Users")).json()
                    if listed["totalResults"] == 2:
                        break
                    await asyncio.sleep(0.05)
                assert listed["totalResults"] == 2
                queue.config_set("maxmemory", 0)
                # Its outcome found no room in the queue: the change log tells it, when the wait is over.
                assert (await waiting).status_code == 201
                assert (await out).status_code == 200
                queue.close()
