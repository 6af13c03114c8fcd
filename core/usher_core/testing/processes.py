"""Looking after processes from outside, for tests that kill some and count what is left.

A process that has ended counts as gone although nobody has asked for its status yet: where the init
process of a container doesn't, such remains stay until the machine goes down.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import psutil

_POLL = 0.02


def is_alive(pid: int) -> bool:
    """Tell whether a process still runs (or is stopped, and could go on)."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def family(pid: int) -> list[int]:
    """Name a process and all its descendants."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def wait_until_gone(pids: Iterable[int], *, timeout: float = 10.0) -> list[int]:
    """Wait until none of the processes is alive; answers those that still are after `timeout` seconds."""
    left = list(pids)
    deadline = time.monotonic() + timeout
    while (left := [pid for pid in left if is_alive(pid)]) and time.monotonic() < deadline:
        time.sleep(_POLL)
    return left
