"""When each tenant is looked at next: the earliest moment wins, and no tenant is looked at twice at once.

`handlers` and whoever notices something adds; `looks` works it off. Invariant: what is added while a tenant
is being looked at leads to another look.
"""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
import time
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from usher_operator.inventories import Key

Look: TypeAlias = Callable[[Key], Awaitable[float | None]]
"""Looks at a tenant; tells in how many seconds to look again, `None` for not by itself."""


class Agenda:
    """The tenants that are due, now or later; for one event loop."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Key]] = []
        self._due: dict[Key, float] = {}
        self._busy: set[Key] = set()
        self._numbers = itertools.count()
        self._news = asyncio.Event()
        self._now = time.monotonic

    def add(self, key: Key, delay: float = 0.0) -> None:
        """Have a tenant looked at in so many seconds, or earlier if that was wanted before."""
        due = self._now() + delay
        if key in self._due and self._due[key] <= due:
            return
        self._due[key] = due
        if key not in self._busy:
            self._push(key, due)

    def forget(self, key: Key) -> None:
        """Have a tenant looked at no more."""
        self._due.pop(key, None)

    async def work(self, look: Look) -> None:
        """Look at one due tenant after another, for ever; several may work beside each other."""
        while True:
            key = await self._take()
            delay = None
            try:
                delay = await look(key)
            except asyncio.CancelledError:
                delay = 0.0  # nobody knows how far it came
                raise
            finally:
                self._busy.discard(key)
                if delay is not None:
                    self.add(key, delay)
                if key in self._due:
                    self._push(key, self._due[key])

    def overdue(self) -> int:
        """Count the tenants that are due and wait for somebody to look."""
        now = self._now()
        return sum(due <= now for due in tuple(self._due.values()))

    async def _take(self) -> Key:
        while True:
            self._skip_stale()
            wait = self._heap[0][0] - self._now() if self._heap else None
            if wait is not None and wait <= 0:
                _, _, key = heapq.heappop(self._heap)
                del self._due[key]
                self._busy.add(key)
                return key
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._news.wait()

    def _skip_stale(self) -> None:
        """Drop what was moved to another moment since, forgotten, or is being looked at."""
        while self._heap:
            due, _, key = self._heap[0]
            if self._due.get(key) == due and key not in self._busy:
                return
            heapq.heappop(self._heap)

    def _push(self, key: Key, due: float) -> None:
        heapq.heappush(self._heap, (due, next(self._numbers), key))
        self._news.set()
