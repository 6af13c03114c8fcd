"""Where an api process waits for the outcomes of its changes: one list, one reader, many waiting requests."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator

import redis.asyncio
import redis.exceptions
import structlog

from usher_core import errors, ids
from usher_core.changes import records
from usher_core.queues import connections, keys, lines

log = structlog.get_logger(__name__)

# One blocking read; the connection's time-out is longer.
BLOCK = 2.0
MOST_AT_ONCE = 256


class Replies:
    """The reply list of one api process; `run` reads it for as long as the process serves."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self.key = keys.replies(uuid.uuid4().hex)
        self._client = client
        self._line = lines.AsyncLine(client)
        self._waiting: dict[ids.ChangeId, asyncio.Future[records.Outcome]] = {}
        self._somebody_waits = asyncio.Event()
        self._stopped = False
        self._deserted = False

    def stop(self) -> None:
        """Let `run` end; a cancellation alone may be lost in the client when a reply comes with it."""
        self._stopped = True

    @contextlib.contextmanager
    def expect(self, change_id: ids.ChangeId) -> Iterator[asyncio.Future[records.Outcome]]:
        """Wait for the outcome of a change; enter before the change is appended."""
        future: asyncio.Future[records.Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[change_id] = future
        self._somebody_waits.set()
        try:
            yield future
        except asyncio.CancelledError:
            self._deserted = True
            raise
        finally:
            del self._waiting[change_id]

    async def part(self) -> None:
        """Let what was answered count as answered when this process has ended; call it after `run`.

        Not if a request was cut off: that one is still to be answered, by another process.
        """
        if self._deserted or self._waiting:
            return
        with contextlib.suppress(errors.QueueUnavailable), connections.wrapped():
            await self._client.set(keys.alive(self.key), 1, px=keys.REQUEST_LIFE)

    async def tell(self) -> None:
        """Say again and again that this process lives, until cancelled.

        Others may ask whether anybody still waits for what goes to this list.
        """
        while True:
            try:
                with connections.wrapped():
                    await self._client.set(keys.alive(self.key), 1, px=keys.ALIVE_LIFE)
            except errors.QueueUnavailable as exc:
                log.debug("replies.untold", error=str(exc))
            await asyncio.sleep(BLOCK)

    async def run(self) -> None:
        """Hand each outcome to whoever waits for it, until cancelled; survive every loss of Valkey."""
        pause = 0.05
        while not self._stopped:
            if not self._waiting:
                # Whoever has an outcome answers before the next ones are asked for, and whoever has a change
                # appends it first: both cost less than asking.
                self._somebody_waits.clear()
                await self._somebody_waits.wait()
                await asyncio.sleep(0)
            try:
                answer = await self._line.ask("BLMPOP", BLOCK, 1, self.key, "LEFT", "COUNT", MOST_AT_ONCE)
                pause = 0.05
            except Exception as exc:  # noqa: BLE001 - if this loop ended, every write would wait in vain
                log.warning("replies.unavailable", error=type(exc).__name__)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 1.0)
                continue
            for data in answer[1] if answer else ():
                self._hand_over(data)
            # Asking for the next ones costs as much as an answer.
            await asyncio.sleep(0)

    def _hand_over(self, data: object) -> None:
        try:
            outcome = records.Outcome.decode(data)  # type: ignore[arg-type]
        except (ValueError, TypeError):
            log.exception("replies.unreadable")
            return
        future = self._waiting.get(outcome.change_id)
        if future is not None and not future.done():
            future.set_result(outcome)
