"""Clients as identity providers are: each waits for one answer, at times hangs up, at times tries again."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

import messages
import wires
from histories import Attempt, History, Operation
from workloads import Workload

# Longer than the service waits for an outcome; and now and then a client that has no patience.
PATIENCE, IMPATIENCE = 12.0, (0.3, 3.0)
IMPATIENT = 0.1
TRIES_AGAIN = 0.5
TRIES = 4
LONGEST_PAUSE = 5.0


class Client:
    """One client of one tenant; it sends to any of the api's ports, as through a Service."""

    def __init__(
        self, history: History, tenant: str, token: str, ports: Sequence[int], workload: Workload, seed: str
    ) -> None:
        self._history = history
        self._tenant = tenant
        self._token = token
        self._wires = [wires.Wire(port) for port in ports]
        self._workload = workload
        self._random = random.Random(seed)

    async def run(self, is_over: Callable[[], bool]) -> None:
        """Send one operation after another until it is over."""
        try:
            while not is_over():
                await self.want(self._workload.next(), is_over)
        finally:
            self.close()

    def close(self) -> None:
        """Hang up everywhere."""
        for wire in self._wires:
            wire.close()

    async def want(self, operation: Operation, is_over: Callable[[], bool] = lambda: False) -> Attempt:
        """Send an operation; while nobody says what became of it, half of the time send it again."""
        patience = PATIENCE
        if self._random.random() < IMPATIENT:
            patience = self._random.uniform(*IMPATIENCE)
        attempt = first = self._history.invoke(self._tenant, operation)
        for _ in range(TRIES):
            pause = await self._send(attempt, patience)
            self._workload.learn(attempt)
            if attempt.is_definite:
                break
            # Also who does not try again waits, as it was asked to.
            await _pause(pause, is_over)
            if is_over() or self._random.random() > TRIES_AGAIN:
                break
            attempt = self._history.invoke(self._tenant, operation, first.number)
        return attempt

    async def insist(self, attempt: Attempt, patience: float) -> None:
        """Send again what nobody was told the end of, until somebody is or so many seconds are over."""
        until = asyncio.get_running_loop().time() + patience
        while not attempt.is_definite and asyncio.get_running_loop().time() < until:
            attempt = self._history.invoke(self._tenant, attempt.operation, attempt.wish)
            await asyncio.sleep(await self._send(attempt, PATIENCE))

    async def _send(self, attempt: Attempt, patience: float) -> float:
        """Send one attempt and take down its end; returns the seconds to wait before another."""
        try:
            answer = await self._exchange(attempt, patience)
        except wires.NoAnswer as exc:
            self._history.complete(attempt, None, why=str(exc))
            return 0.1
        except BaseException:
            self._history.complete(attempt, None, why="cancelled")
            raise
        shown = messages.seen(attempt.operation, answer.status, answer.headers, answer.body)
        why = ""
        if answer.status == 503:
            told = answer.headers.get("retry-after", "")
            why = f"Retry-After: {told}" if told.isdigit() else f"with Retry-After {told!r}"
            self._history.complete(attempt, 503, why=why)
            return min(float(told) if told.isdigit() else 1.0, LONGEST_PAUSE)
        if answer.status >= 400:
            why = answer.body.decode(errors="replace")[:300]
        self._history.complete(attempt, answer.status, shown, why)
        return 0.0

    async def _exchange(self, attempt: Attempt, patience: float) -> wires.Answer:
        """Send to one of the ports at which somebody listens, as a Service does."""
        request = messages.request(attempt.operation)
        first, *others = self._random.sample(self._wires, len(self._wires))
        for wire in (first, *others):
            try:
                return await wire.send(request, self._token, attempt.request_id, patience)
            except wires.NotSent:
                continue
        raise wires.NoAnswer("nobody listens")


async def _pause(seconds: float, is_over: Callable[[], bool]) -> None:
    """Wait as Retry-After asks, but not beyond the end."""
    until = asyncio.get_running_loop().time() + seconds
    while not is_over() and (left := until - asyncio.get_running_loop().time()) > 0:  # noqa: ASYNC110
        await asyncio.sleep(min(left, 0.2))
