"""Reads are limited for the whole cluster, and by nobody while the queue is away."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator

import pytest
import redis.asyncio

from usher_core import ids
from usher_core.queues import allowances, appends, connections, memories

TENANT = ids.TenantId(uuid.UUID(int=1))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    opened = connections.connect_async(redis_url)
    yield opened
    await opened.aclose()


async def until_refused(end: allowances.Allowances, per_second: int) -> tuple[int, float]:
    """Read until there is nothing left; returns how many reads there were, and the wait that was told."""
    for spent in range(10 * per_second):
        try:
            await end.spend(TENANT, per_second)
        except appends.RateExceeded as refused:
            return spent, refused.seconds
    raise AssertionError("nobody was refused")


async def spend_all(*ends: allowances.Allowances, per_second: int) -> tuple[int, float]:
    """Spend until each end is told to wait; returns how many reads there were, and how many there may be."""
    started = time.monotonic()
    spent = sum([(await until_refused(end, per_second))[0] for end in ends])
    # A bucket holds a second's reads, and fills up while it is emptied.
    return spent, per_second * (1 + time.monotonic() - started) + 1


async def test_a_tenant_reads_as_often_as_its_rate_says(client: redis.asyncio.Redis) -> None:
    spent, most = await spend_all(allowances.Allowances(client), per_second=5)
    assert 5 <= spent <= most


async def test_the_processes_of_a_cluster_share_one_rate(client: redis.asyncio.Redis) -> None:
    spent, most = await spend_all(*(allowances.Allowances(client) for _ in range(4)), per_second=8)
    assert 8 <= spent <= most


async def at_once(end: allowances.Allowances, reads: int, per_second: int) -> int:
    """Read so many times at once; returns how many reads there were."""
    done = await asyncio.gather(
        *(end.spend(TENANT, per_second) for _ in range(reads)), return_exceptions=True
    )
    assert all(one is None or isinstance(one, appends.RateExceeded) for one in done)
    return done.count(None)


@pytest.mark.parametrize("per_second", [64, 100, 1000, 5000])
async def test_of_reads_at_once_none_is_refused_while_there_is_one_left(
    client: redis.asyncio.Redis, per_second: int
) -> None:
    assert await at_once(allowances.Allowances(client), 64, per_second) == 64


async def test_of_reads_at_once_as_many_are_refused_as_are_too_many(client: redis.asyncio.Redis) -> None:
    ends = [allowances.Allowances(client) for _ in range(3)]
    started = time.monotonic()
    done = await asyncio.gather(*(at_once(end, 100, 40) for end in ends))
    assert 40 <= sum(done) <= 40 * (1 + time.monotonic() - started) + 1


async def test_a_refusal_is_asked_for_once(client: redis.asyncio.Redis) -> None:
    async def asked() -> int:
        calls = await client.info("commandstats")
        return int(calls.get("cmdstat_evalsha", {"calls": 0})["calls"])

    end = allowances.Allowances(client)
    before = await asked()
    assert 1 <= await at_once(end, 500, 1) <= 2
    assert await asked() - before <= 5


async def test_one_is_told_how_long_to_wait(client: redis.asyncio.Redis) -> None:
    _, seconds = await until_refused(allowances.Allowances(client), 2)
    assert 0 < seconds <= 0.5


async def test_no_rate_is_no_limit(client: redis.asyncio.Redis) -> None:
    end = allowances.Allowances(client)
    for _ in range(1000):
        await end.spend(TENANT, 0)


async def test_a_queue_that_is_away_limits_nobody() -> None:
    async with connections.connect_async("redis://127.0.0.1:1/0") as away:
        end = allowances.Allowances(away)
        for _ in range(20):
            await end.spend(TENANT, 1)
        assert await at_once(end, 100, 1) == 100


async def test_whether_a_queue_is_back_is_for_one_read_to_find_out(
    client: redis.asyncio.Redis, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(allowances, "LIFE", 0.0)
    async with connections.connect_async(f"{redis_url}?socket_timeout=0.3") as impatient:
        end = allowances.Allowances(impatient)
        await client.client_pause(1000)
        await end.spend(TENANT, 1)
        started = time.monotonic()
        assert await at_once(end, 50, 1) == 50
        assert time.monotonic() - started < 0.6
        await client.client_unpause()
        assert await at_once(end, 50, 1) > 2, "the others do not wait for the one that asks"
        assert await at_once(end, 50, 1) <= 2, "it is back, and limits again"


async def test_a_server_without_a_limit_is_never_short(client: redis.asyncio.Redis) -> None:
    memory = memories.Memory(client)
    await memory.look()
    assert (memory.used, memory.is_short) == (0.0, False)
