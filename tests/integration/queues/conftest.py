"""What the tests of the queue share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from usher_core.queues import connections


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    made = connections.connect(redis_url)
    yield made
    made.close()
