"""Connections to Valkey or Redis, and the one place where its failures get our names."""

from __future__ import annotations

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


class wrapped:  # noqa: N801 - it is used like a function; as a generator it would cost three times as much
    """Turn the client's failures, and a server that is full or still loading, into `QueueUnavailable`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        if isinstance(raised, redis.exceptions.OutOfMemoryError):
            raise errors.QueueFull("Valkey: no memory left") from raised
        # uvloop says RuntimeError where a connection was lost with an error, and redis-py lets it through.
        if isinstance(raised, (redis.RedisError, OSError)) or type(raised) is RuntimeError:
            raise errors.QueueUnavailable(f"Valkey: {type(raised).__name__}") from raised
