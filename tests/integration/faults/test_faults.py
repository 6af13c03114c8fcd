"""What is acknowledged is there, once, whatever dies in between; and no answer is ever untrue.

Each test has servers of its own, with durable commits, and breaks one of them under load.
"""

from __future__ import annotations

import asyncio
import collections
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from usher_core.store import migrations
from usher_core.testing import servers, stacks

CLIENTS = 16


@pytest.fixture
def own_servers(tmp_path: Path) -> Iterator[servers.Servers]:
    with servers.start_servers(tmp_path / "servers") as started:
        migrations.upgrade(started.database.owner)
        yield started


@pytest.fixture
def stack(own_servers: servers.Servers, tmp_path: Path) -> Iterator[stacks.Stack]:
    env = {"USHER_APPLY_WAIT": "20", "USHER_LOG_LEVEL": "info"}
    with stacks.Stack(own_servers.database.app, own_servers.redis_url, tmp_path, env) as started:
        yield started


@pytest.fixture
async def acme(stack: stacks.Stack) -> stacks.Access:
    return await stack.make_tenant()


@pytest.fixture
async def client(acme: stacks.Access) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers, timeout=40) as opened:
        yield opened


class Record:
    """What the clients sent and were told."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, str] = {}
        self.statuses: collections.Counter[int] = collections.Counter()
        self.untrue: list[str] = []

    async def create(self, client: httpx.AsyncClient, name: str) -> None:
        """Create a user as an identity provider does: again, after Retry-After, while the answer is 503."""
        sent = 0
        while True:
            answer = await client.post("/Users", json={"userName": name, "active": True})
            sent += 1
            self.statuses[answer.status_code] += 1
            match answer.status_code:
                case 201:
                    self.acknowledged[name] = answer.json()["id"]
                    return
                case 409 if sent > 1:
                    return  # an earlier one of ours was applied after all
                case 503:
                    if not answer.headers.get("retry-after", "").isdigit():
                        self.untrue.append(f"503 without an integer Retry-After: {answer.headers}")
                    await asyncio.sleep(0.2)
                case _:
                    self.untrue.append(f"{answer.status_code}: {answer.text}")
                    return

    async def look_up(self, client: httpx.AsyncClient, name: str) -> None:
        """Look up a user that is there: it is found, or the answer is 503."""
        answer = await client.get("/Users", params={"filter": f'userName eq "{name}"'})
        self.statuses[answer.status_code] += 1
        if answer.status_code == 200 and answer.json()["totalResults"] != 1:
            self.untrue.append(f"{name} was not found: {answer.text}")
        elif answer.status_code not in (200, 503):
            self.untrue.append(f"{answer.status_code} to a look-up: {answer.text}")


async def load(
    client: httpx.AsyncClient, record: Record, count: int, fault: Callable[[], Awaitable[None]], after: int
) -> None:
    """Send `count` creates by the clients; cause the fault when `after` were acknowledged."""
    names = iter([f"user{n}@x.io" for n in range(count)])
    struck = asyncio.Event()

    async def one() -> None:
        for name in names:
            await record.create(client, name)
            if len(record.acknowledged) >= after:
                struck.set()

    async def strike() -> None:
        await struck.wait()
        await fault()

    await asyncio.gather(strike(), *(one() for _ in range(CLIENTS)))


async def check(client: httpx.AsyncClient, record: Record, servers_: servers.Servers, acme: Any) -> None:
    """Compare what was acknowledged with what is there."""
    assert record.untrue == []
    with psycopg.connect(servers_.database.app) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(acme.tenant),))
        stored = app.execute("SELECT document->>'userName', id::text FROM resources").fetchall()
        logged = app.execute(
            "SELECT count(*), count(DISTINCT change_id) FROM change_log WHERE status = 201"
        ).fetchone()
        total = app.execute("SELECT total FROM totals WHERE type = 'User'").fetchone()
        dead = app.execute("SELECT count(*) FROM dead_letters").fetchone()
    there = dict(stored)
    assert len(there) == len(stored), "a name is there twice"
    assert record.acknowledged.items() <= there.items()
    assert logged == (len(stored), len(stored))
    assert total == (len(stored),)
    assert dead == (0,)
    listed = (await client.get("/Users?count=1")).json()
    assert listed["totalResults"] == len(stored)


async def test_a_worker_killed_among_a_thousand_creates_loses_and_doubles_nothing(
    stack: stacks.Stack, client: httpx.AsyncClient, acme: stacks.Access, own_servers: servers.Servers
) -> None:
    record = Record()

    async def kill() -> None:
        stack.kill_worker()
        stack.start_worker()

    await load(client, record, 1000, kill, after=300)
    assert record.statuses[201] >= 900
    await check(client, record, own_servers, acme)


async def test_a_stopped_postgresql_is_waited_for(
    stack: stacks.Stack, client: httpx.AsyncClient, acme: stacks.Access, own_servers: servers.Servers
) -> None:
    record = Record()
    await record.create(client, "first@x.io")

    async def stop_for_five_seconds() -> None:
        await asyncio.to_thread(own_servers.postgres.stop)
        for _ in range(10):
            await record.look_up(client, "first@x.io")
            await asyncio.sleep(0.5)
        await asyncio.to_thread(own_servers.postgres.start)

    await load(client, record, 300, stop_for_five_seconds, after=100)
    await check(client, record, own_servers, acme)
    assert record.statuses[503] > 0  # the look-ups met a store that was away
    assert len(stack.worker_pids) == 1  # and nobody restarted the worker


async def test_a_valkey_that_comes_back_empty_is_worked_with(
    stack: stacks.Stack, client: httpx.AsyncClient, acme: stacks.Access, own_servers: servers.Servers
) -> None:
    record = Record()
    await record.create(client, "first@x.io")

    async def lose() -> None:
        own_servers.valkey.kill()
        for _ in range(4):
            await record.look_up(client, "first@x.io")  # reads need PostgreSQL alone
            await asyncio.sleep(0.5)
        for path in own_servers.valkey.data.glob("appendonlydir*"):
            shutil.rmtree(path)
        await asyncio.to_thread(own_servers.valkey.start)

    await load(client, record, 300, lose, after=100)
    await check(client, record, own_servers, acme)
    assert record.statuses[503] > 0


async def test_a_worker_that_sleeps_through_its_replacement_commits_nothing(
    stack: stacks.Stack, client: httpx.AsyncClient, acme: stacks.Access, own_servers: servers.Servers
) -> None:
    record = Record()
    sleeper = stack.worker_pids[0]

    async def pause() -> None:
        os.kill(sleeper, signal.SIGSTOP)
        stack.start_worker()

    try:
        await load(client, record, 400, pause, after=100)
    finally:
        os.kill(sleeper, signal.SIGCONT)
    await asyncio.sleep(1.0)  # it wakes, and finds its epoch over
    await record.create(client, "after@x.io")
    await check(client, record, own_servers, acme)


async def test_a_worker_killed_in_the_midst_of_a_bulk_loses_and_doubles_nothing(
    own_servers: servers.Servers, tmp_path: Path
) -> None:
    env = {"USHER_APPLY_WAIT": "40", "USHER_BATCH_SIZE": "2", "USHER_LOG_LEVEL": "info"}
    users = [
        {"method": "POST", "path": "/Users", "bulkId": f"u{n}", "data": {"userName": f"user{n}@x.io"}}
        for n in range(400)
    ]
    named = [{"value": f"bulkId:u{n}"} for n in range(400)]
    team = {
        "method": "POST",
        "path": "/Groups",
        "bulkId": "g",
        "data": {"displayName": "G", "members": named},
    }
    with stacks.Stack(own_servers.database.app, own_servers.redis_url, tmp_path, env) as stack:
        acme = await stack.make_tenant()

        def logged() -> int:
            app.execute("SELECT set_config('usher.tenant', %s, false)", (str(acme.tenant),))
            [(count,)] = app.execute("SELECT count(*) FROM change_log").fetchall()
            return int(count)

        def kill_twice() -> list[int]:
            seen = []
            for so_far in (50, 200):
                while logged() < so_far:
                    time.sleep(0.002)
                stack.kill_worker()
                seen.append(logged())
                stack.start_worker()
            return seen

        async with httpx.AsyncClient(base_url=acme.base_url, headers=acme.headers, timeout=60) as client:
            with psycopg.connect(own_servers.database.app, autocommit=True) as app:
                answer, seen = await asyncio.gather(
                    client.post("/Bulk", json={"Operations": [team, *users]}), asyncio.to_thread(kill_twice)
                )
                told = answer.json()["Operations"]
                assert seen[0] < seen[1] < 402
                assert [one["status"] for one in told] == ["201"] * 401
                assert [one["version"] for one in told] == ['W/"1"'] * 401
                assert logged() == 402
                [(dead,)] = app.execute("SELECT count(*) FROM dead_letters").fetchall()
                assert dead == 0
            assert (await client.get("/Users?count=1")).json()["totalResults"] == 400
            shown = (await client.get(told[0]["location"])).json()
            assert len(shown["members"]) == 400
