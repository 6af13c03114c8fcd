"""What one worker process holds: its settings, its connections, and the wish to stop.

RQ calls a job by its path with plain arguments; the job finds its process here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import redis

from usher_core import settings
from usher_core.queues import connections
from usher_core.store import batches, registries


class Process:
    """The connections and state that all jobs of one worker process share."""

    def __init__(self, config: settings.Settings, stopping: threading.Event | None = None) -> None:
        self.settings = config
        self.stopping = stopping or threading.Event()
        self.redis: redis.Redis = connections.connect(config.redis_url)
        self.store = batches.Connection(config.database_url)
        self.registries = registries.Registries()
        self.beat: Callable[[], None] = lambda: None
        """Says that the process lives, from within a job; whoever runs the jobs sets it."""
        self.count: Callable[[], bool] = lambda: False
        """Counts a drain that has ended; tells whether the process has done enough. Set as `beat` is."""

    def close(self) -> None:
        """Close the connections."""
        self.store.close()
        self.redis.close()


_current: Process | None = None


def enter(process: Process) -> None:
    """Make `process` the one that jobs find."""
    global _current
    _current = process


def current() -> Process:
    """Return the process that jobs run in."""
    if _current is None:
        raise RuntimeError("a drain runs only in a worker process")
    return _current
