"""What an Usher costs that nobody uses: the processor time of api and worker, with 1,000 tenants.

`idle_cost` is the part of one core that the two take together, the sweep included. PostgreSQL and Valkey
are told apart from it. Before, some tenants write, so that connections and caches are as after a day of work.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable

import psutil
import reports
import systems

from usher_core.testing import loads

GOAL = 0.02
WRITERS = 20
# Drains linger on what they applied for five seconds.
CALM = 8.0


def measure(tenants: int, seconds: float) -> dict[str, reports.Row]:
    with systems.serving() as (up, folder), systems.usher(up, folder) as stack:
        with loads.Load(up.database.owner, up.redis_url) as load:
            made = load.make_tenants(tenants - WRITERS)
        assert len(made) == tenants - WRITERS
        for access in systems.make_tenants(stack, WRITERS):
            systems.load(stack.port, access.token, 1, 0.1)
        time.sleep(CALM)
        watched = {
            "api": [stack.api_pid],
            "worker": stack.worker_pids,
            "postgresql": with_children(up.postgres.pid),
            "valkey": [up.valkey.pid],
        }
        before = {name: cpu_seconds(pids) for name, pids in watched.items()}
        started = time.monotonic()
        time.sleep(seconds)
        elapsed = time.monotonic() - started
        parts = {name: (cpu_seconds(pids) - before[name]) / elapsed for name, pids in watched.items()}
    rounded = {name: round(part, 4) for name, part in parts.items()}
    return {"idle_cost": reports.at_most(parts["api"] + parts["worker"], GOAL, **rounded, tenants=tenants)}


def with_children(pid: int) -> list[int]:
    """List a process and those that it started."""
    return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Tell the processor time of the processes so far, and of those of their children that have ended."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):  # its parent tells what it took
            total += sum(psutil.Process(pid).cpu_times()[:4])
    return total


def main() -> None:
    parser = reports.arguments(__doc__)
    parser.add_argument("--tenants", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of the timing (default 60)")
    args = parser.parse_args()
    found = measure(args.tenants, args.seconds)
    reports.show("An idle Usher, in parts of one core", found)
    reports.write(found, args.out)


if __name__ == "__main__":
    main()
