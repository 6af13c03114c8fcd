"""A connection of one's own to Valkey or Redis, for whoever sends one thing after another all day.

A client takes a connection out of its pool for each command, and puts it back: that costs more than the
command itself. What is on the way of every write asks over a line instead. It is redis-py's connection, with
its TLS, its authentication and its parser; a line repeats nothing, and connects anew after a failure.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable
from typing import Any

import hiredis
import redis
import redis.asyncio
import redis.exceptions

from usher_core.queues import connections

Command = tuple[str | bytes | int | float, ...]


class Line:
    """A connection that is borrowed from a client's pool at first use, until `close`.

    For one thread. Sending and reading are apart: what others wait for goes out at once, and whoever sent it
    reads the answers when it needs those of the next commands too.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None
        self._awaited = 0

    def send(self, commands: Iterable[Command], *, idle: bool = False) -> None:
        """Send commands; their answers are read with `receive`.

        `idle`: the server may have ended the connection since; then another is made first.

        Raises:
            RedisError: some may have been executed, also of those that were sent before; no answer will come.
        """
        packed = [_packed(command) for command in commands]
        try:
            if self._connection is None:
                self._connection = self._pool.get_connection()
            elif idle and not self._awaited and self._has_ended():
                self._connection.disconnect()
            self._connection.send_packed_command([b"".join(packed)], check_health=False)
        except BaseException:
            self._break()
            raise
        self._awaited += len(packed)

    def receive(self) -> list[Any]:
        """Read the answers to all that was sent since the last time.

        Raises:
            RedisError: the first of them; as with a pipeline, all commands may have been executed.
        """
        failure: redis.exceptions.ResponseError | None = None
        answers: list[Any] = []
        try:
            while self._awaited:
                try:
                    answers.append(self._connection.read_response())
                except redis.exceptions.ResponseError as exc:
                    failure = failure or exc
                self._awaited -= 1
        except BaseException:
            self._break()
            raise
        if failure is not None:
            raise failure
        return answers

    def close(self) -> None:
        """Give the connection back."""
        if self._awaited:
            self._break()  # the answers would be taken for those of other commands
        if self._connection is not None:
            self._pool.release(self._connection)
            self._connection = None

    def _has_ended(self) -> bool:
        # Nothing can come unasked but the end of the connection.
        try:
            return bool(self._connection.can_read(0))
        except (redis.RedisError, OSError):
            return True

    def _break(self) -> None:
        self._awaited = 0
        if self._connection is not None:
            self._connection.disconnect()


class AsyncLine:
    """A connection of an asynchronous client that is never put back; for one task at a time.

    It is borrowed at first use, and closed with the client.
    """

    def __init__(self, client: redis.asyncio.Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Any = None

    async def ask(self, *command: str | bytes | float) -> Any:
        """Send a command and return its answer.

        Raises:
            RedisError, OSError: it may have been executed.
        """
        try:
            async with asyncio.timeout(connections.SOCKET_TIMEOUT):
                connection = self._connection or await self._borrow()
                if connection.is_connected and await connection.can_read():
                    # Nothing can come unasked but the end of the connection.
                    await connection.disconnect(nowait=True)
                await connection.send_packed_command(_packed(command), check_health=False)
                return await connection.read_response(timeout=math.inf)
        except redis.exceptions.ResponseError:
            raise
        except BaseException:
            if self._connection is not None:
                await self._connection.disconnect(nowait=True)
            raise

    async def _borrow(self) -> Any:
        self._connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        # One deadline around a command is enough; for this one, redis-py makes a task for each that is sent.
        self._connection.socket_timeout = None
        return self._connection


def _packed(command: Command) -> bytes:
    # In C, which redis-py uses only for its synchronous connections. Annotated there is a tuple of one.
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
