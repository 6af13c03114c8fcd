"""A tenant that writes with many clients at once leaves room for one that writes now and then."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import redis

from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import keys
from usher_core.testing import stacks

SHARED = 3
CLIENTS = 12


@pytest.fixture
def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> Iterator[stacks.Stack]:
    with stacks.Stack(database_urls.app, redis_url, tmp_path, {"USHER_SHARED_WRITES": str(SHARED)}) as up:
        up.start_worker()  # one is kept busy
        yield up


async def test_beside_another_tenant_a_busy_one_has_few_writes_under_way_and_each_is_applied(
    stack: stacks.Stack, database_urls: DatabaseUrls, redis_url: str
) -> None:
    busy, quiet = await stack.make_tenant("busy"), await stack.make_tenant("quiet")
    with redis.Redis.from_url(redis_url) as valkey, psycopg.connect(database_urls.owner) as owner:
        async with httpx.AsyncClient(timeout=40) as client:

            async def create(access: stacks.Access, name: str) -> int:
                body = {"userName": f"{name}@x.io"}
                answer = await client.post(f"{access.base_url}/Users", headers=access.headers, json=body)
                return answer.status_code

            assert await create(busy, "first") == await create(quiet, "first") == 201
            # Nothing is applied while the drain's row is held, so that what was queued can be counted.
            owner.execute("SELECT FROM drains WHERE tenant = %s FOR UPDATE", (busy.tenant,))
            writing, most = [], 0
            for number in range(8):
                # What counts is that another one writes, not how soon it is answered.
                writing.append(asyncio.create_task(create(quiet, f"{number}")))
                await asyncio.sleep(0.2)
                if not number:
                    writing += [asyncio.create_task(create(busy, f"{client}")) for client in range(CLIENTS)]
                most = max(most, valkey.xlen(keys.changes(busy.tenant)))
            assert most == SHARED
            owner.rollback()
            assert set(await asyncio.gather(*writing)) == {201}
