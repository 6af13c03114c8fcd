"""Look-ups believed for a second: bounded, and one query for a burst of the same question.

Called by `authentications`. Invariant: an answer is never older than `LIFETIME` from before its query;
a failure is told to all who wait and is not kept. What is asked for again in the second half of its life is
looked up anew beside that request: nobody who asks several times a second ever waits. For one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

LIFETIME = 1.0  # seconds
YOUTH = 0.5
"""The part of its life in which an answer is not looked up anew."""

CAPACITY = 10_000

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


class Lookups(Generic[Asked, Answer]):
    """A cache in front of an asynchronous look-up.

    Empty answers (`None`, nothing found) have room of their own, so that guesses crowd out no real answer.
    """

    def __init__(self, look_up: Callable[[Asked], Awaitable[Answer]]) -> None:
        self._look_up = look_up
        self._found: dict[Asked, tuple[float, Answer]] = {}
        self._empty: dict[Asked, tuple[float, Answer]] = {}
        self._pending: dict[Asked, asyncio.Task[Answer]] = {}

    def kept(self, asked: Asked) -> tuple[float, Answer] | None:
        """Return the answer from within the last second, behind the moment when it gets stale."""
        kept = self._found.get(asked) or self._empty.get(asked)
        if kept is None:
            return None
        left = kept[0] - time.monotonic()
        if left <= 0:
            return None
        if left < LIFETIME * (1 - YOUTH) and asked not in self._pending:
            self._begin(asked)
        return kept

    def renew(self, asked: Asked) -> None:
        """Begin to look up what was asked for before and is stale by now; whoever needs it waits the less."""
        known = asked in self._found or asked in self._empty
        if known and self.kept(asked) is None and asked not in self._pending:
            self._begin(asked)

    async def get(self, asked: Asked) -> Answer:
        """Return the answer, from within the last second or by a look-up that others may share."""
        kept = self.kept(asked)
        if kept is not None:
            return kept[1]
        task = self._pending.get(asked) or self._begin(asked)
        # A client that hangs up must not take the look-up away from the others.
        return await asyncio.shield(task)

    def _begin(self, asked: Asked) -> asyncio.Task[Answer]:
        task = self._pending[asked] = asyncio.create_task(self._ask(asked))
        task.add_done_callback(lambda done: self._forget_pending(asked, done))
        return task

    async def _ask(self, asked: Asked) -> Answer:
        stale_at = time.monotonic() + LIFETIME
        answer = await self._look_up(asked)
        self._found.pop(asked, None)
        self._empty.pop(asked, None)
        _keep(self._found if answer else self._empty, asked, (stale_at, answer))
        return answer

    def _forget_pending(self, asked: Asked, done: asyncio.Task[Answer]) -> None:
        del self._pending[asked]
        if not done.cancelled():
            done.exception()  # retrieved here too: all who waited may have hung up


def _keep(room: dict[Asked, tuple[float, Answer]], asked: Asked, kept: tuple[float, Answer]) -> None:
    while len(room) >= CAPACITY:
        del room[next(iter(room))]  # the oldest: entries stand in the order in which they were kept
    room[asked] = kept
