"""An append is refused, charged for or recognised in one step, and never goes to a server that forgot."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import redis.asyncio

from usher_core import errors, ids
from usher_core.queues import appends, connections, keys

TENANT = ids.TenantId(uuid.UUID(int=1))


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    opened = connections.connect_async(redis_url)
    yield opened
    await opened.aclose()


def promising(answer: bool) -> Callable[[], Awaitable[bool]]:
    async def nothing_promised() -> bool:
        return answer

    return nothing_promised


def appender(
    client: redis.asyncio.Redis, *, nothing_promised: bool = True, oldest: float = 60
) -> appends.Appender:
    return appends.Appender(client, promising(nothing_promised), oldest=oldest)


async def test_the_first_change_claims_the_wake_and_the_next_ones_do_not(client: redis.asyncio.Redis) -> None:
    end = appender(client)
    woken = [await end.append(TENANT, appends.Item(b"%d" % number)) for number in range(3)]
    assert woken == [True, False, False]
    entries = await client.xrange(keys.changes(TENANT))
    assert [fields[b"c"] for _, fields in entries] == [b"0", b"1", b"2"]


async def test_a_server_that_forgot_gets_nothing_while_changes_are_promised(
    client: redis.asyncio.Redis,
) -> None:
    promised = True

    async def nothing_promised() -> bool:
        return not promised

    end = appends.Appender(client, nothing_promised, oldest=60)
    with pytest.raises(appends.GenerationLost):
        await end.append(TENANT, appends.Item(b"1"))
    promised = False
    await end.append(TENANT, appends.Item(b"2"))
    # The server is ours; what is promised from now on stands in its streams.
    promised = True
    await end.append(TENANT, appends.Item(b"3"))
    assert await client.xlen(keys.changes(TENANT)) == 2


@pytest.mark.parametrize("loss", ["the mark", "the script and the mark", "another server's mark"])
async def test_a_loss_is_noticed_at_the_next_append(client: redis.asyncio.Redis, loss: str) -> None:
    empty = [True]

    async def nothing_promised() -> bool:
        return empty[0]

    end = appends.Appender(client, nothing_promised, oldest=60)
    await end.append(TENANT, appends.Item(b"1"))
    empty[0] = False
    if loss == "another server's mark":
        await client.set(keys.GENERATION, "0" * 40)
    else:
        await client.delete(keys.GENERATION)
    if loss == "the script and the mark":
        await client.script_flush()
    with pytest.raises(appends.GenerationLost):
        await end.append(TENANT, appends.Item(b"2"))
    assert await client.xlen(keys.changes(TENANT)) == 1


async def test_a_server_that_only_forgot_the_script_is_taught_it_again(client: redis.asyncio.Redis) -> None:
    end = appender(client)
    await end.append(TENANT, appends.Item(b"1"))
    await client.script_flush()
    await end.append(TENANT, appends.Item(b"2"))
    assert await client.xlen(keys.changes(TENANT)) == 2


async def test_a_promised_change_is_noted_with_its_position(client: redis.asyncio.Redis) -> None:
    change_id = ids.ChangeId(uuid.UUID(int=7))
    await appender(client).append(TENANT, appends.Item(b"1", promised=change_id))
    [(position, _)] = await client.xrange(keys.changes(TENANT))
    assert await client.hgetall(keys.inbox(TENANT)) == {str(change_id).encode(): position}


async def test_more_writes_than_the_rate_wait_as_long_as_they_are_told(client: redis.asyncio.Redis) -> None:
    end, limits = appender(client), appends.Limits(per_second=5)
    for number in range(5):
        await end.append(TENANT, appends.Item(b"%d" % number), limits)
    with pytest.raises(appends.RateExceeded) as refused:
        await end.append(TENANT, appends.Item(b"5"), limits)
    assert 0 < refused.value.seconds <= 0.2
    assert await client.xlen(keys.changes(TENANT)) == 5


async def test_a_bulk_costs_as_much_as_its_operations_and_the_next_write_waits_for_it(
    client: redis.asyncio.Redis,
) -> None:
    end, limits = appender(client), appends.Limits(per_second=10)
    await end.append(TENANT, appends.Item(b"bulk", cost=30), limits)
    with pytest.raises(appends.RateExceeded) as refused:
        await end.append(TENANT, appends.Item(b"1"), limits)
    assert 2.0 < refused.value.seconds <= 2.1


async def test_a_debt_is_paid_whole_however_large_it_is(client: redis.asyncio.Redis) -> None:
    end, limits = appender(client), appends.Limits(per_second=1)
    await end.append(TENANT, appends.Item(b"bulk", cost=1000), limits)
    with pytest.raises(appends.RateExceeded) as refused:
        await end.append(TENANT, appends.Item(b"1"), limits)
    assert 999 < refused.value.seconds <= 1000
    assert await client.pttl(keys.bucket(TENANT, "writes")) > 999_000, "it is not forgotten before"


@pytest.mark.parametrize("debt", [0, 5, 600])
async def test_revocations_alone_lock_nobody_out_for_more_than_ten_seconds(
    client: redis.asyncio.Redis, debt: int
) -> None:
    end, limits = appender(client), appends.Limits(per_second=2)
    if debt:
        await end.append(TENANT, appends.Item(b"bulk", cost=2 + debt), limits)
    for _ in range(10):
        await end.append(TENANT, appends.Item(b"", urgent=True, cost=100), limits)
    with pytest.raises(appends.RateExceeded) as refused:
        await end.append(TENANT, appends.Item(b"1"), limits)
    assert max(10, debt / 2) < refused.value.seconds <= max(10, debt / 2) + 0.5


async def test_one_rate_holds_for_all_api_processes(client: redis.asyncio.Redis) -> None:
    limits = appends.Limits(per_second=4)
    ends = [appender(client) for _ in range(2)]
    for number in range(4):
        await ends[number % 2].append(TENANT, appends.Item(b"1"), limits)
    for end in ends:
        with pytest.raises(appends.RateExceeded):
            await end.append(TENANT, appends.Item(b"1"), limits)


async def test_more_pending_changes_than_allowed_are_refused(client: redis.asyncio.Redis) -> None:
    end, limits = appender(client), appends.Limits(most_pending=2)
    for number in range(2):
        await end.append(TENANT, appends.Item(b"%d" % number), limits)
    with pytest.raises(appends.TooManyPending):
        await end.append(TENANT, appends.Item(b"2"), limits)


async def test_nothing_is_added_behind_a_change_that_waited_too_long(client: redis.asyncio.Redis) -> None:
    end = appender(client, oldest=0.05)
    await end.append(TENANT, appends.Item(b"1"))
    await client.xadd(keys.changes(ids.TenantId(uuid.UUID(int=2))), {"c": b"1"}, id="1-1")
    with pytest.raises(appends.Backlogged):
        await end.append(ids.TenantId(uuid.UUID(int=2)), appends.Item(b"2"))


@pytest.mark.parametrize(
    ("limits", "oldest"),
    [
        pytest.param(appends.Limits(per_second=1), 60.0, id="the rate"),
        pytest.param(appends.Limits(most_pending=1), 60.0, id="the pending changes"),
        pytest.param(appends.NO_LIMITS, -1.0, id="the age of the oldest"),
    ],
)
async def test_a_revocation_is_never_refused(
    client: redis.asyncio.Redis, limits: appends.Limits, oldest: float
) -> None:
    end = appender(client, oldest=oldest)
    await end.append(TENANT, appends.Item(b"1"), limits)
    with pytest.raises((appends.RateExceeded, appends.TooManyPending, appends.Backlogged)):
        await end.append(TENANT, appends.Item(b"2"), limits)
    await end.append(TENANT, appends.Item(b"3", urgent=True), limits)
    assert await client.xlen(keys.changes(TENANT)) == 2


async def test_a_request_seen_before_is_told_its_mark_unless_it_insists(client: redis.asyncio.Redis) -> None:
    end, request = appender(client), keys.fingerprint(TENANT, "abc")
    await end.append(TENANT, appends.Item(b"1", request=request, mark="first"))
    with pytest.raises(appends.Seen) as seen:
        await end.append(TENANT, appends.Item(b"2", request=request, mark="second"))
    assert seen.value.mark == "first"
    await end.append(TENANT, appends.Item(b"3", request=request, mark="!third"))
    assert await client.get(request) == b"third"
    assert 0 < await client.pttl(request) <= keys.REQUEST_LIFE
    assert await client.xlen(keys.changes(TENANT)) == 2


async def test_what_is_only_charged_for_leaves_nothing_behind(client: redis.asyncio.Redis) -> None:
    end, limits = appender(client), appends.Limits(per_second=2)
    assert await end.append(TENANT, appends.Item(b"", cost=2), limits) is False
    with pytest.raises(appends.RateExceeded):
        await end.append(TENANT, appends.Item(b"1"), limits)
    assert not await client.exists(keys.changes(TENANT), keys.wake(TENANT))


async def test_memory_that_is_short_is_the_last_reason_to_refuse(client: redis.asyncio.Redis) -> None:
    short = True
    end = appends.Appender(client, promising(answer=True), oldest=60, is_short=lambda: short)
    with pytest.raises(errors.QueueFull):
        await end.append(TENANT, appends.Item(b"1"))
    await end.append(TENANT, appends.Item(b"2", urgent=True))
    limits = appends.Limits(per_second=1, most_pending=1)
    with pytest.raises(appends.TooManyPending):
        await end.append(TENANT, appends.Item(b"3"), limits)
    short = False
    await end.append(TENANT, appends.Item(b"4"))
    assert await client.xlen(keys.changes(TENANT)) == 2
