"""What a noisy tenant does to a quiet one: the p99 of a write each 50 ms, beside the noise over alone.

Two kinds of noise, each in turn with silence: 64 clients of another tenant that create as fast as they can,
and 100,000 changes of another tenant that wait and are worked off meanwhile. `quiet_tenant_p99_ratio` is the
larger of the two. Two processes of the api and two workers: as operations.md asks for at least as many
workers as there are tenants that are busy at once. `--processes 1` shows what fewer do.
"""

from __future__ import annotations

import time

import reports
import systems
from rich.progress import track

from usher_core.queues import keys
from usher_core.testing import loads, stacks

GOAL = 3.0
EVERY = 0.05
CLIENTS = 64
# The noise begins earlier and ends later than what is timed beside it: a generator takes a while to start.
MARGIN = 3.0


def measure(processes: int, rounds: int, seconds: float, pending: int) -> dict[str, reports.Row]:
    alone: list[float] = []
    beside: dict[str, list[float]] = {"clients": [], "pending": []}
    with systems.serving() as (up, folder), systems.usher(up, folder, processes=processes) as stack:
        quiet, noisy = systems.make_tenants(stack, 2)
        systems.load(stack.port, noisy.token, 4, 1.0)
        systems.load(stack.port, quiet.token, 1, 1.0, EVERY)
        for _ in track(range(rounds), "Neighbours", transient=True):
            alone += _quiet(stack, quiet, seconds)
            noise = systems.Load(stack.port, noisy.token, CLIENTS, seconds + MARGIN)
            time.sleep(MARGIN / 2)
            beside["clients"] += _quiet(stack, quiet, seconds)
            noise.result()
        with loads.Load(up.database.owner, up.redis_url) as load:
            busy = systems.make_tenants(stack, 1)[0].tenant
            load.append(busy, *(f"{number}@x" for number in range(pending)))
            beside["pending"] += _quiet(stack, quiet, rounds * seconds)
            left = load.client.xlen(keys.changes(busy))
    base = reports.percentile(alone, 0.99)
    ratios = {name: round(reports.percentile(values, 0.99) / base, 2) for name, values in beside.items()}
    return {
        "quiet_tenant_p99_ratio": reports.at_most(
            max(ratios.values()),
            GOAL,
            beside_64_clients=ratios["clients"],
            beside_pending=ratios["pending"],
            pending_at_end=left,
            alone_p99_ms=round(base, 2),
            alone_p50_ms=round(reports.percentile(alone, 0.5), 2),
            processes=processes,
        )
    }


def _quiet(stack: stacks.Stack, tenant: stacks.Access, seconds: float) -> list[float]:
    result = systems.load(stack.port, tenant.token, 1, seconds, EVERY)
    latencies: list[float] = result["latencies_ms"]
    return latencies


def main() -> None:
    parser = reports.arguments(__doc__)
    parser.add_argument("--processes", type=int, default=2, help="of the api, and workers (default 2)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="length of one timing (default 8)")
    parser.add_argument("--pending", type=int, default=100_000)
    args = parser.parse_args()
    found = measure(args.processes, args.rounds, args.seconds, args.pending)
    reports.show("A quiet tenant beside a noisy one (p99)", found)
    reports.write(found, args.out)


if __name__ == "__main__":
    main()
