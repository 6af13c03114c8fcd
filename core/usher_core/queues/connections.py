"""Connections to Valkey or Redis, and the one place where its failures get our names."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import redis
import redis.asyncio
import redis.exceptions
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import NoBackoff
from redis.retry import Retry

from usher_core import errors

# Longer than any blocking read of ours: silence beyond it means that the server is gone.
SOCKET_TIMEOUT = 5.0


def connect(url: str) -> redis.Redis:
    """Make a synchronous client, for workers and for RQ; it connects at first use.

    It repeats no command on its own: what a lost answer means is for the caller to decide.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=2.0,
        retry=Retry(NoBackoff(), 0),
        health_check_interval=0,
    )


def connect_async(url: str) -> redis.asyncio.Redis:
    """Make an asynchronous client, for the api; it connects at first use and repeats nothing."""
    return redis.asyncio.Redis.from_url(
        url,
        socket_timeout=SOCKET_TIMEOUT,
        socket_connect_timeout=2.0,
        retry=AsyncRetry(NoBackoff(), 0),
        health_check_interval=0,
    )


def exchange(client: redis.Redis, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send commands at once and read their answers, as they come: a pipeline at half the price.

    Raises:
        RedisError: the first of them; as with a pipeline, all commands may have been executed.
    """
    connection = client.connection_pool.get_connection()
    failure: redis.exceptions.ResponseError | None = None
    answers: list[Any] = []
    try:
        packed = connection.pack_commands(commands)  # type: ignore[no-untyped-call]
        connection.send_packed_command(packed, check_health=False)  # type: ignore[no-untyped-call]
        for _ in commands:
            try:
                answers.append(connection.read_response())
            except redis.exceptions.ResponseError as exc:
                failure = failure or exc
    except BaseException:
        # The rest of the answers would be taken for those of other commands.
        connection.disconnect()  # type: ignore[no-untyped-call]
        raise
    finally:
        client.connection_pool.release(connection)
    if failure is not None:
        raise failure
    return answers


@contextlib.contextmanager
def wrapped() -> Iterator[None]:
    """Turn the client's failures, and a server that is full or still loading, into `QueueUnavailable`."""
    try:
        yield
    except redis.exceptions.OutOfMemoryError as exc:
        raise errors.QueueFull("Valkey: no memory left") from exc
    except (redis.RedisError, OSError) as exc:
        raise errors.QueueUnavailable(f"Valkey: {type(exc).__name__}") from exc
