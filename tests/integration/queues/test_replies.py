"""An api process that stops in order is believed to have answered, unless it left somebody waiting."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import redis.asyncio

from usher_core import ids
from usher_core.queues import connections, keys, replies


async def ask(own: replies.Replies) -> None:
    with own.expect(ids.ChangeId(ids.new_uuid())) as reply:
        await reply


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
