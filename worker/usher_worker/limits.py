"""How long a worker process may go on before another takes its place: so many drains, so much memory.

Each process draws its own limits, up to a fifth below those that are set, so that processes which began
together do not end together.
"""

from __future__ import annotations

import os
import random
import resource
import sys
from pathlib import Path

from usher_core import settings

SPREAD = 0.2

_STATM = Path("/proc/self/statm")


class Limits:
    """The limits of this process; 0 in the settings is none."""

    def __init__(self, config: settings.Settings) -> None:
        self._jobs = _drawn(config.worker_max_jobs)
        self._bytes = _drawn(config.worker_max_megabytes) * 2**20
        self.done = 0
        """How many drains this process has run."""
        self.reached: str | None = None
        """Which limit was reached, `jobs` or `memory`; for good."""

    def look(self) -> bool:
        """Tell whether a limit is reached."""
        if not self.done:
            return False  # however low the limit is, each process does something
        if self._jobs and self.done >= self._jobs:
            self.reached = "jobs"
        elif self._bytes and resident() > self._bytes:
            self.reached = "memory"
        return self.reached is not None


def is_limited(config: settings.Settings) -> bool:
    """Tell whether worker processes are to be replaced at all."""
    return bool(config.worker_max_jobs or config.worker_max_megabytes)


def resident() -> int:
    """Tell how many bytes of memory this process has; where that can't be asked, the most that it had."""
    try:
        return int(_STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most if sys.platform == "darwin" else most * 1024


def _drawn(limit: int) -> float:
    return limit * random.uniform(1 - SPREAD, 1)  # noqa: S311 - spreads ends, guards nothing
