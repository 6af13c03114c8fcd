from __future__ import annotations

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
