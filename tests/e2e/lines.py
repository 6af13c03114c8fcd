"""The line between the operator and the API server, which a test can cut, silence or slow down.

tests/e2e/conftest.py lays one. It is a link of the fault tests with an event loop in a thread of its own, for
the tests here wait for kubectl. Invariant: what a test asks of the line has happened when the call returns.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import links


class _Link(links.Link):
    """A link whose connections can also die without a word, as when a machine between loses its power."""

    def strand(self) -> None:
        """Leave every connection open, and silent for ever; new ones are welcome."""
        for writer in self._writers:
            writer.transport.pause_reading()


class Line:
    """Everything that goes to a port of loopback, while the block runs."""

    def __init__(self, target: int) -> None:
        self._link = _Link("API server", target)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="line")

    @property
    def port(self) -> int:
        """Where the operator finds the line."""
        return self._link.port

    def __enter__(self) -> Line:
        self._thread.start()
        self._await(self._link.open)
        return self

    def __exit__(self, *_: object) -> None:
        self._await(self._link.close)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """End every connection; new ones are welcome."""
        self._do(self._link.cut)

    def refuse(self) -> None:
        """End every connection and each new one, until `heal`."""
        self._do(self._link.refuse)

    def swallow(self) -> None:
        """Take everything and pass nothing on, until `heal`."""
        self._do(self._link.swallow)

    def strand(self) -> None:
        """Leave every connection open, and silent for ever; new ones are welcome."""
        self._do(self._link.strand)

    def slow_down(self, seconds: float) -> None:
        """Have each piece come late by so much, in either direction, until `heal`."""
        self._link.delay = seconds

    def heal(self) -> None:
        """Pass everything on again; what was swallowed comes late."""
        self._do(self._link.heal)

    def _do(self, what: Callable[[], None]) -> None:
        async def done() -> None:
            what()

        self._await(done)

    def _await(self, what: Callable[[], Awaitable[None]]) -> None:
        async def done() -> None:
            await what()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(timeout=30)
