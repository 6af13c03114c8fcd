"""What was answered 202 is kept for good, in its order, and its outcome is an event."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from usher_core.store import migrations
from usher_core.testing import servers, stacks

LATER = {"Prefer": "respond-async"}


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[servers.Servers]:
    """Servers of this test's own: it takes one of them away."""
    with servers.start_servers(tmp_path / "servers") as started:
        migrations.upgrade(started.database.owner)
        yield started


@pytest.fixture
def stack(own_servers: servers.Servers, tmp_path: Path) -> Iterator[stacks.Stack]:
    with stacks.Stack(own_servers.database.app, own_servers.redis_url, tmp_path) as started:
        yield started


@pytest.fixture
async def client(stack: stacks.Stack) -> AsyncIterator[httpx.AsyncClient]:
    acme = await stack.make_tenant()
    async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers, timeout=40) as opened:
        yield opened


def completions(own: servers.Servers) -> list[tuple[str, dict[str, Any]]]:
    with psycopg.connect(own.database.owner) as owner:
        return [
            (str(change), detail)
            for change, detail in owner.execute(
                "SELECT change_id, detail FROM events WHERE kind = 'asyncresp' ORDER BY number"
            )
        ]


async def until_told(own: servers.Servers, count: int) -> list[tuple[str, dict[str, Any]]]:
    for _ in range(600):
        if len(found := completions(own)) >= count:
            return found
        await asyncio.sleep(0.05)
    raise AssertionError(f"{completions(own)} are not {count}")


async def test_the_answer_names_the_transaction_and_the_event_tells_its_end(
    client: httpx.AsyncClient, own_servers: servers.Servers
) -> None:
    accepted = await client.post("/Users", json={"userName": "ada@x.io"}, headers=LATER)
    assert (accepted.status_code, accepted.content) == (202, b"")
    assert accepted.headers["preference-applied"] == "respond-async"
    txn = accepted.headers["set-txn"]
    [(change, told)] = await until_told(own_servers, 1)
    assert change == txn
    assert told == {"method": "POST", "status": "201", "version": 'W/"1"'}
    shown = await client.get(accepted.headers["location"])
    assert shown.json()["userName"] == "ada@x.io"


async def test_a_refusal_is_told_as_it_would_have_been_answered(
    client: httpx.AsyncClient, own_servers: servers.Servers
) -> None:
    nobody = uuid.uuid4()
    body = {"Operations": [{"op": "replace", "path": "title", "value": "x"}]}
    accepted = await client.patch(f"/Users/{nobody}", json=body, headers=LATER)
    assert accepted.status_code == 202
    alone = (await client.patch(f"/Users/{nobody}", json=body)).json()
    [(_, told)] = await until_told(own_servers, 1)
    assert (told["method"], told["status"], told["response"]) == ("PATCH", "404", alone)


async def test_what_can_be_seen_to_be_wrong_is_answered_at_once(client: httpx.AsyncClient) -> None:
    refused = await client.post("/Users", json={"userName": "no address"}, headers=LATER)
    assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidValue")


async def test_each_operation_of_a_bulk_is_told(
    client: httpx.AsyncClient, own_servers: servers.Servers
) -> None:
    users = [
        {"method": "POST", "path": "/Users", "bulkId": str(n), "data": {"userName": f"{n % 2}@x.io"}}
        for n in range(3)
    ]
    accepted = await client.post("/Bulk", json={"Operations": users}, headers=LATER)
    assert accepted.status_code == 202
    told = await until_told(own_servers, 3)
    assert [(detail["txn"], detail["status"]) for _, detail in told] == [
        (f"{accepted.headers['set-txn']}:{n}", "409" if n == 2 else "201") for n in range(3)
    ]


async def test_a_revocation_that_got_no_place_in_the_order_is_no_202_and_holds(
    client: httpx.AsyncClient, own_servers: servers.Servers
) -> None:
    ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()["id"]
    own_servers.valkey.stop()
    body = {"Operations": [{"op": "replace", "path": "active", "value": False}]}
    refused = await client.patch(f"/Users/{ada}", json=body, headers=LATER)
    assert refused.status_code == 503, "what comes after it may be applied before it"
    assert (await client.get(f"/Users/{ada}")).json()["active"] is False
    created = await client.post("/Users", json={"userName": "bob@x.io"}, headers=LATER)
    assert created.status_code == 503
    own_servers.valkey.start()
    [(_, told)] = await until_told(own_servers, 1)
    assert (told["method"], told["status"]) == ("PATCH", "200")


async def test_what_was_answered_202_outlives_the_queue_and_nothing_younger_overtakes_it(
    stack: stacks.Stack, client: httpx.AsyncClient, own_servers: servers.Servers
) -> None:
    ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()["id"]
    stack.kill_worker()
    for title in ("first", "second"):
        body = {"Operations": [{"op": "replace", "path": "title", "value": title}]}
        assert (await client.patch(f"/Users/{ada}", json=body, headers=LATER)).status_code == 202
    own_servers.valkey.stop()
    for left in own_servers.valkey.data.rglob("*.aof"):
        left.unlink()
    for left in own_servers.valkey.data.rglob("*.rdb"):
        left.unlink()
    for left in own_servers.valkey.data.rglob("*.manifest"):
        left.unlink()
    own_servers.valkey.start()
    body = {"Operations": [{"op": "replace", "path": "title", "value": "third"}]}
    early = await client.patch(f"/Users/{ada}", json=body)
    assert early.status_code == 503, "nothing is taken on before what was promised is back"
    stack.start_worker()
    statuses = []
    for _ in range(200):
        statuses.append((await client.patch(f"/Users/{ada}", json=body)).status_code)
        if statuses[-1] != 503:
            break
        await asyncio.sleep(0.1)
    assert statuses[-1] == 200
    with psycopg.connect(own_servers.database.owner) as owner:
        titles = owner.execute(
            "SELECT body -> 0 ->> 'value' FROM change_log WHERE operation = 'patch' ORDER BY version"
        ).fetchall()
        assert titles == [("first",), ("second",), ("third",)]
        assert owner.execute("SELECT count(*) FROM inbox").fetchone() == (0,)
