"""Several tenants in one api process: each has its turns, and none waits for longer than it must."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from usher_api import turns
from usher_core import ids

NOISY, QUIET = ids.TenantId(uuid.UUID(int=1)), ids.TenantId(uuid.UUID(int=2))
PATIENCE = 30.0


@pytest.fixture
async def shared() -> turns.Turns:
    """Turns of two that both write, with room for two writes of each."""
    made = turns.Turns(2)
    for tenant in (QUIET, NOISY):
        assert made.take(tenant)
        made.leave(tenant)
    return made


async def go_on() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_tenant_that_writes_alone_is_not_held_back() -> None:
    alone = turns.Turns(2)
    assert all(alone.take(NOISY) for _ in range(100))


async def test_beside_another_a_tenant_has_a_few_writes_under_way(shared: turns.Turns) -> None:
    assert [shared.take(NOISY) for _ in range(3)] == [True, True, False]
    assert shared.take(QUIET), "the other has turns of its own"


async def test_who_waits_longest_is_next(shared: turns.Turns) -> None:
    assert shared.take(NOISY)
    assert shared.take(NOISY)
    done: list[int] = []

    async def write(number: int) -> None:
        await shared.wait(NOISY, patience=PATIENCE)
        done.append(number)

    writing = [asyncio.create_task(write(number)) for number in range(3)]
    await go_on()
    assert done == []
    shared.leave(NOISY)
    await go_on()
    assert done == [0]
    assert not shared.take(NOISY), "nobody overtakes those that wait"
    shared.leave(NOISY)
    shared.leave(NOISY)
    await go_on()
    assert done == [0, 1, 2]
    await asyncio.gather(*writing)


async def test_a_wait_ends_with_the_patience_and_takes_no_turn(shared: turns.Turns) -> None:
    assert shared.take(NOISY)
    assert shared.take(NOISY)
    with pytest.raises(TimeoutError):
        await shared.wait(NOISY, patience=0.01)
    shared.leave(NOISY)
    assert shared.take(NOISY)
    assert not shared.take(NOISY)


async def test_a_turn_given_to_one_that_has_gone_is_given_back(shared: turns.Turns) -> None:
    assert shared.take(NOISY)
    assert shared.take(NOISY)
    waiting = asyncio.create_task(shared.wait(NOISY, patience=PATIENCE))
    await go_on()
    shared.leave(NOISY)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert shared.take(NOISY)
    assert not shared.take(NOISY)


async def test_all_go_on_once_the_other_is_silent(
    shared: turns.Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MEMORY", 0.05)
    assert shared.take(QUIET)
    assert [shared.take(NOISY) for _ in range(3)] == [True, True, False]
    # Nobody leaves, and no other tenant comes: what waits is let go on all the same.
    await asyncio.gather(*(shared.wait(NOISY, patience=PATIENCE) for _ in range(10)))


async def test_it_is_held_back_for_as_long_as_the_other_goes_on(
    shared: turns.Turns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MEMORY", 0.5)
    assert shared.take(QUIET)
    assert [shared.take(NOISY) for _ in range(3)] == [True, True, False]
    waiting = asyncio.create_task(shared.wait(NOISY, patience=PATIENCE))
    for _ in range(10):
        await asyncio.sleep(0.1)
        shared.take(QUIET)  # it writes, whether or not there is a turn for it
    assert not waiting.done()
    await waiting
