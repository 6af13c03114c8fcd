"""A retry gets what its first try led to, and a request that only looks like one does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import redis

from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import keys
from usher_core.testing import stacks

ADA = {"userName": "ada@x.io"}


@pytest.fixture
def stack(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> Iterator[stacks.Stack]:
    """An api that waits for a second only, and workers that come and go."""
    env = {"USHER_APPLY_WAIT": "1", "USHER_LOG_LEVEL": "info"}
    with stacks.Stack(database_urls.app, redis_url, tmp_path, env) as started:
        yield started


@pytest.fixture
async def acme(stack: stacks.Stack) -> stacks.Access:
    return await stack.make_tenant()


@contextlib.asynccontextmanager
async def connected(access: stacks.Access, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    merged = access.headers | headers
    async with httpx.AsyncClient(base_url=access.base_url, headers=merged, timeout=40) as opened:
        yield opened


@pytest.fixture
async def client(acme: stacks.Access) -> AsyncIterator[httpx.AsyncClient]:
    async with connected(acme) as opened:
        yield opened


def logged(urls: DatabaseUrls) -> list[tuple[str, int]]:
    with psycopg.connect(urls.owner) as owner:
        return owner.execute(
            "SELECT operation, status FROM change_log ORDER BY applied_at, stream_id"
        ).fetchall()


async def until_logged(urls: DatabaseUrls, count: int) -> None:
    for _ in range(600):
        if len(logged(urls)) >= count:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{logged(urls)} are not {count}")


async def hang_up(client: httpx.AsyncClient, method: str, path: str, body: Any = None) -> None:
    """Send a request and close the connection before the answer."""
    with pytest.raises(httpx.ReadTimeout):
        await client.request(method, path, json=body, timeout=httpx.Timeout(40, read=0.3))


async def lose_once_queued(redis_url: str) -> None:
    """Empty the queue as soon as it holds a change."""
    with contextlib.closing(redis.Redis.from_url(redis_url)) as queue:
        for _ in range(1000):
            if any(queue.xlen(name) for name in queue.keys(keys.changes("*"))):
                queue.flushdb()
                return
            await asyncio.sleep(0.01)
    raise AssertionError("no change was queued")


async def test_a_late_503_is_followed_by_the_outcome_of_the_first_try(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    stack.kill_worker()
    late = await client.post("/Users", json=ADA)
    assert (late.status_code, late.headers["retry-after"].isdigit()) == (503, True)
    stack.start_worker()
    await until_logged(database_urls, 1)
    again = await client.post("/Users", json=ADA)
    assert (again.status_code, again.json()["userName"]) == (201, "ada@x.io")
    assert again.headers["location"].endswith(again.json()["id"])
    assert logged(database_urls) == [("create", 201)]
    # It was told now, once: who sends it again means it.
    assert (await client.post("/Users", json=ADA)).status_code == 409


@pytest.mark.parametrize("hangs_up", [False, True], ids=["a 503", "nobody hears"])
async def test_what_was_lost_with_the_queue_is_not_waited_for(
    stack: stacks.Stack,
    client: httpx.AsyncClient,
    database_urls: DatabaseUrls,
    redis_url: str,
    hangs_up: bool,
) -> None:
    stack.kill_worker()
    asking = asyncio.create_task(client.post("/Users", json=ADA, timeout=0.8 if hangs_up else 40))
    await lose_once_queued(redis_url)
    if hangs_up:
        with pytest.raises(httpx.ReadTimeout):
            await asking
        await asyncio.sleep(0.5)  # the api sees it, and still waits
    else:
        assert (await asking).status_code == 503
    stack.start_worker()
    for _ in range(20):  # a worker takes longer to start than the api waits
        answer = await client.post("/Users", json=ADA)
        if answer.status_code != 503:
            break
    assert answer.status_code == 201
    assert logged(database_urls) == [("create", 201)]


async def test_a_retry_whose_answer_nobody_heard_either_is_followed_by_another(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    stack.kill_worker()
    await hang_up(client, "POST", "/Users", ADA)
    # The second try waits for the outcome of the first, and its client has gone when it comes.
    await asyncio.sleep(0.3)
    await hang_up(client, "POST", "/Users", ADA)
    stack.start_worker()
    await until_logged(database_urls, 1)
    await asyncio.sleep(0.5)
    assert (await client.post("/Users", json=ADA)).status_code == 201
    assert (await client.post("/Users", json=ADA)).status_code == 409
    assert logged(database_urls) == [("create", 201), ("create", 409)]


async def test_an_outcome_of_which_something_was_taken_away_is_no_answer(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    stack.kill_worker()
    assert (await client.post("/Users", json=ADA)).status_code == 503
    stack.start_worker()
    await until_logged(database_urls, 1)
    ada = (await client.get("/Users")).json()["Resources"][0]["id"]
    stack.kill_worker()
    off = {"Operations": [{"op": "replace", "path": "active", "value": False}]}
    assert (await client.patch(f"/Users/{ada}", json=off)).status_code == 503
    assert (await client.get(f"/Users/{ada}")).json()["active"] is False
    # The deactivation is in force, and its turn is to come: nobody is told of an active user.
    assert (await client.post("/Users", json=ADA)).status_code == 503
    stack.start_worker()


async def test_a_retry_joins_a_first_try_that_still_waits(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    stack.kill_worker()
    assert (await client.post("/Users", json=ADA)).status_code == 503
    joined = asyncio.create_task(client.post("/Users", json=ADA))
    await asyncio.sleep(0.2)
    stack.start_worker()
    answer = await joined
    if answer.status_code == 503:  # the worker took longer to start than the api waits
        await until_logged(database_urls, 1)
        answer = await client.post("/Users", json=ADA)
    assert answer.status_code == 201
    assert logged(database_urls) == [("create", 201)]


async def test_an_answer_that_nobody_heard_is_given_to_the_retry(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    stack.kill_worker()
    await hang_up(client, "POST", "/Users", ADA)
    await asyncio.sleep(0.5)  # the api looks after slow requests ten times a second
    stack.start_worker()
    await until_logged(database_urls, 1)
    again = await client.post("/Users", json=ADA)
    assert again.status_code == 201
    assert logged(database_urls) == [("create", 201)]


async def test_a_deletion_that_nobody_heard_of_is_told_to_the_retry(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = (await client.post("/Users", json=ADA)).json()["id"]
    stack.kill_worker()
    await hang_up(client, "DELETE", f"/Users/{ada}")
    await asyncio.sleep(0.5)
    stack.start_worker()
    await until_logged(database_urls, 2)
    assert (await client.delete(f"/Users/{ada}")).status_code == 204
    assert logged(database_urls) == [("create", 201), ("delete", 204)]


async def test_a_promise_that_the_queue_lost_is_still_waited_for(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls, redis_url: str
) -> None:
    user = (await client.post("/Users", json=ADA)).json()["id"]
    stack.kill_worker()
    asking = asyncio.create_task(client.delete(f"/Users/{user}"))
    await lose_once_queued(redis_url)
    assert (await asking).status_code == 503
    stack.start_worker()
    await until_logged(database_urls, 2)
    assert (await client.delete(f"/Users/{user}")).status_code == 204
    assert (await client.delete(f"/Users/{user}")).status_code == 404
    assert logged(database_urls) == [("create", 201), ("delete", 204), ("delete", 404)]


async def test_what_was_answered_and_is_sent_again_is_meant(
    client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    assert (await client.post("/Users", json=ADA)).status_code == 201
    # Okta's own suite: "Expect failure when recreating user with same values".
    again = await client.post("/Users", json=ADA)
    assert (again.status_code, again.json()["scimType"]) == (409, "uniqueness")


async def test_what_was_answered_by_an_api_that_has_stopped_is_meant_too(
    stack: stacks.Stack, acme: stacks.Access, redis_url: str
) -> None:
    async with connected(acme) as client:
        assert (await client.post("/Users", json=ADA)).status_code == 201
    stack.stop()
    with contextlib.closing(redis.Redis.from_url(redis_url)) as queue:
        [stopped] = queue.keys(keys.alive(keys.replies("*")))
        assert queue.pttl(stopped) > keys.ALIVE_LIFE, "it counts as alive for as long as its marks are there"
    stack.start_worker()
    stack.start_api()
    async with connected(acme) as client:
        assert (await client.post("/Users", json=ADA)).status_code == 409


async def test_two_equal_creations_at_once_are_one_user_and_one_conflict(
    client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    answers = await asyncio.gather(*(client.post("/Users", json=ADA) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [201, 409]


async def test_an_outcome_that_no_longer_holds_is_no_answer(
    stack: stacks.Stack, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    stack.kill_worker()
    assert (await client.post("/Users", json=ADA)).status_code == 503
    stack.start_worker()
    await until_logged(database_urls, 1)
    ada = (await client.get("/Users")).json()["Resources"][0]["id"]
    rename = {"Operations": [{"op": "replace", "path": "title", "value": "Lady"}]}
    assert (await client.patch(f"/Users/{ada}", json=rename)).status_code == 200
    assert (await client.post("/Users", json=ADA)).status_code == 409


async def test_deactivate_activate_deactivate_are_three_wishes(
    client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    ada = (await client.post("/Users", json=ADA)).json()["id"]
    for active in (False, True, False):
        body = {"Operations": [{"op": "replace", "path": "active", "value": active}]}
        assert (await client.patch(f"/Users/{ada}", json=body)).json()["active"] is active
    assert logged(database_urls) == [("create", 201)] + [("patch", 200)] * 3


async def test_another_token_has_wishes_of_its_own(
    stack: stacks.Stack, acme: stacks.Access, client: httpx.AsyncClient, database_urls: DatabaseUrls
) -> None:
    stack.kill_worker()
    assert (await client.post("/Users", json=ADA)).status_code == 503
    stack.start_worker()
    await until_logged(database_urls, 1)
    other = await stack.make_token(acme.tenant)
    async with connected(other) as second:
        assert (await second.post("/Users", json=ADA)).status_code == 409


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        pytest.param("POST", "/Users?attributes=userName", {}, id="another query"),
        pytest.param("POST", "/Users", {"Prefer": "return=minimal"}, id="another preference"),
    ],
)
async def test_a_request_that_differs_is_another_one(
    stack: stacks.Stack,
    client: httpx.AsyncClient,
    database_urls: DatabaseUrls,
    method: str,
    path: str,
    headers: dict[str, str],
) -> None:
    stack.kill_worker()
    assert (await client.post("/Users", json=ADA)).status_code == 503
    stack.start_worker()
    await until_logged(database_urls, 1)
    assert (await client.request(method, path, json=ADA, headers=headers)).status_code == 409


async def test_what_an_api_that_died_was_asked_is_answered_by_another(
    stack: stacks.Stack, acme: stacks.Access, database_urls: DatabaseUrls, redis_url: str
) -> None:
    stack.kill_worker()
    async with connected(acme) as client:
        asking = asyncio.create_task(client.post("/Users", json=ADA))
        await asyncio.sleep(0.3)
        stack.kill_api()
        with pytest.raises(httpx.HTTPError):
            await asking
    stack.start_worker()
    await until_logged(database_urls, 1)
    with contextlib.closing(redis.Redis.from_url(redis_url)) as queue:
        for _ in range(600):  # it counts as alive for some seconds
            if not queue.keys(keys.alive(keys.replies("*"))):
                break
            await asyncio.sleep(0.1)
    stack.start_api()
    async with connected(acme) as client:
        assert (await client.post("/Users", json=ADA)).status_code == 201
    assert logged(database_urls) == [("create", 201)]
