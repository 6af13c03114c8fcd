from __future__ import annotations

import asyncio

import pytest

from usher_core.tenants import caches


class Source:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    async def look_up(self, number: int) -> str | None:
        self.asked.append(number)
        if number < 0:
            raise LookupError("away")
        return f"found {number}" if number % 2 == 0 else None


async def test_an_answer_is_asked_for_once() -> None:
    source = Source()
    lookups = caches.Lookups(source.look_up)
    assert [await lookups.get(2), await lookups.get(2), await lookups.get(1), await lookups.get(1)] == [
        "found 2", "found 2", None, None,
    ]  # fmt: skip
    assert source.asked == [2, 1]


async def test_a_failure_is_not_kept() -> None:
    source = Source()
    lookups = caches.Lookups(source.look_up)
    for _ in range(2):
        with pytest.raises(LookupError):
            await lookups.get(-1)
    assert source.asked == [-1, -1]


async def test_an_answer_is_asked_for_again_when_it_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "LIFETIME", 0.0)
    source = Source()
    lookups = caches.Lookups(source.look_up)
    await lookups.get(2)
    await lookups.get(2)
    assert source.asked == [2, 2]


async def test_guesses_crowd_out_no_answer_and_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "CAPACITY", 10)
    source = Source()
    lookups = caches.Lookups(source.look_up)
    await lookups.get(2)
    for guess in range(1, 101, 2):
        await lookups.get(guess)
    assert await lookups.get(2) == "found 2"
    assert source.asked.count(2) == 1
    await lookups.get(1)
    assert source.asked.count(1) == 2
    await lookups.get(99)
    assert source.asked.count(99) == 1


async def test_who_asks_again_and_again_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    lookups = caches.Lookups(source.look_up)
    await lookups.get(2)
    assert lookups.kept(2)
    await asyncio.sleep(0)
    assert source.asked == [2], "an answer that is young was looked up anew"
    monkeypatch.setattr(caches, "YOUTH", 0.0)
    first = lookups.kept(2)
    assert first is not None
    assert lookups.kept(2) == first
    assert source.asked == [2], "a request waited for the look-up"
    await asyncio.sleep(0)
    assert source.asked == [2, 2], "one look-up for all who ask meanwhile"
    renewed = lookups.kept(2)
    assert renewed is not None
    assert renewed[0] > first[0]
    await asyncio.sleep(0)


async def test_a_failed_renewal_leaves_the_answer_for_the_rest_of_its_life(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(caches, "YOUTH", 0.0)
    source = Source()
    lookups = caches.Lookups(source.look_up)
    await lookups.get(2)

    async def fail(number: int) -> str | None:
        raise LookupError("away")

    monkeypatch.setattr(lookups, "_look_up", fail)
    assert lookups.kept(2)
    await asyncio.sleep(0)
    kept = lookups.kept(2)
    assert kept is not None
    assert kept[1] == "found 2"
    await asyncio.sleep(0)


async def test_what_is_stale_is_renewed_ahead_of_whoever_needs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    lookups = caches.Lookups(source.look_up)
    lookups.renew(2)
    await asyncio.sleep(0)
    assert source.asked == [], "nobody asked for it before"
    with monkeypatch.context() as stale_at_once:
        stale_at_once.setattr(caches, "LIFETIME", 0.0)
        await lookups.get(2)
    lookups.renew(2)
    lookups.renew(2)
    await asyncio.sleep(0)
    assert source.asked == [2, 2], "one look-up, begun before anybody waits"
    assert await lookups.get(2) == "found 2"
    lookups.renew(2)
    await asyncio.sleep(0)
    assert source.asked == [2, 2], "it was not stale"
