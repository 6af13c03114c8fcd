"""An api process that stops in order is believed to have answered, unless it left somebody waiting."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import redis.asyncio

from usher_core import ids
from usher_core.changes import records
from usher_core.queues import connections, keys, replies


async def ask(own: replies.Replies) -> None:
    with own.expect(ids.ChangeId(ids.new_uuid())) as reply:
        await reply


async def forget(client: redis.asyncio.Redis, own: replies.Replies) -> None:
    """Forget that a process lives, as soon as it has said so."""
    for _ in range(500):
        if await client.delete(keys.alive(own.key)):
            return
        await asyncio.sleep(0.01)
    pytest.fail("it does not say that it lives")


@pytest.mark.parametrize("cut_off", [False, True], ids=["all-were-answered", "one-was-cut-off"])
async def test_who_parts_counts_as_alive_only_if_all_were_answered(redis_url: str, cut_off: bool) -> None:
    client: redis.asyncio.Redis = connections.connect_async(redis_url)
    async with contextlib.aclosing(client):
        own = replies.Replies(client)
        if cut_off:
            asking = asyncio.create_task(ask(own))
            await asyncio.sleep(0)
            asking.cancel()
            await asyncio.wait([asking])
        await own.part()
        assert await client.exists(keys.alive(own.key)) == (not cut_off)


async def test_outcomes_are_asked_for_only_while_somebody_waits(redis_url: str) -> None:
    client: redis.asyncio.Redis = connections.connect_async(redis_url)
    async with contextlib.aclosing(client):
        own = replies.Replies(client)
        running = asyncio.create_task(own.run())
        await asyncio.sleep(0.05)
        assert (await client.info("clients"))["blocked_clients"] == 0
        change = ids.ChangeId(ids.new_uuid())
        with own.expect(change) as reply:
            await asyncio.sleep(0.05)
            assert (await client.info("clients"))["blocked_clients"] == 1
            await client.rpush(own.key, records.Outcome(change, 204).encode())
            assert (await reply).status == 204
        own.stop()
        running.cancel()
        await asyncio.wait([running])


async def test_a_process_says_that_it_lives_also_after_valkey_forgot(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "BLOCK", 0.05)
    client: redis.asyncio.Redis = connections.connect_async(redis_url)
    async with contextlib.aclosing(client):
        own = replies.Replies(client)
        telling = asyncio.create_task(own.tell())
        for _ in range(2):
            await forget(client, own)
        telling.cancel()
        await asyncio.wait([telling])


async def test_a_process_goes_on_to_say_that_it_lives_whatever_its_connection_says(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replies, "BLOCK", 0.05)
    client: redis.asyncio.Redis = connections.connect_async(redis_url)
    async with contextlib.aclosing(client):
        own = replies.Replies(client)
        failing = asyncio.Event()

        async def fail(*args: object, **more: object) -> None:
            failing.set()
            raise RuntimeError("unable to perform operation; the handler is closed")

        with monkeypatch.context() as lost:
            lost.setattr(client, "set", fail)
            telling = asyncio.create_task(own.tell())
            await failing.wait()
        await forget(client, own)
        telling.cancel()
        await asyncio.wait([telling])
