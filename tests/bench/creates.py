"""Creates a second, and the median time of one, for Usher and the baselines: `make bench`.

Everything runs on the same embedded servers with durable commits, one api process and one worker each,
in turns, so that a drift of the machine's speed falls on all of them. What is judged are ratios within a
round, the median of the rounds.
"""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import baselines
import psycopg
import reports
import systems
from rich.console import Console
from rich.table import Table

from usher_core.testing import servers, stacks

CLIENTS = (1, 16, 64)
SYSTEMS = ("usher", "direct_insert", "job_per_change")
MANY, ONE = CLIENTS[-1], CLIENTS[0]
GOAL_OF_DIRECT, GOAL_OF_JOB, GOAL_OF_P50 = 1.0, 5.0, 2.5

Rounds = Mapping[tuple[str, int], list[systems.Result]]
"""What was measured of a system with so many clients, round by round."""


@contextlib.contextmanager
def process(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(command, env=env, cwd=systems.HERE, stdout=subprocess.DEVNULL)
    try:
        yield running
    finally:
        running.terminate()
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            running.kill()
            running.wait()


def wait_for(port: int) -> None:
    for _ in range(300):
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 0.2).close()
            return
        time.sleep(0.1)
    raise SystemExit(f"nothing listens on port {port}")


@contextlib.contextmanager
def serving(system: str, up: servers.Servers, folder: Path) -> Iterator[tuple[int, str]]:
    """Serve one system for as long as the body runs; yields its port and a token."""
    if system == "usher":
        with systems.usher(up, folder) as stack:
            [access] = systems.make_tenants(stack, 1)
            yield stack.port, access.token
        return
    port = stacks.free_port()
    env = os.environ | {"USHER_DATABASE_URL": up.database.app, "USHER_REDIS_URL": up.redis_url}
    uvicorn = (
        *(sys.executable, "-m", "uvicorn", "--host", "127.0.0.1", "--port", str(port), "--factory"),
        *("--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"),
    )
    with contextlib.ExitStack() as stack:
        if system == "job_per_change":
            stack.enter_context(process(sys.executable, "baselines.py", env=env))
        app = "direct" if system == "direct_insert" else "job"
        stack.enter_context(process(*uvicorn, f"baselines:{app}", env=env))
        wait_for(port)
        yield port, "none"


def measure(seconds: float, rounds: int, chosen: tuple[str, ...]) -> Rounds:
    found: dict[tuple[str, int], list[systems.Result]] = {}
    with systems.serving() as (up, folder):
        with psycopg.connect(up.database.owner, autocommit=True) as owner:
            owner.execute(baselines.TABLE)
            owner.execute("GRANT SELECT, INSERT ON baseline TO usher_app")
        for _ in range(rounds):
            for system in chosen:
                with serving(system, up, folder) as (port, token):
                    systems.load(port, token, 4, 1.0)  # warm up: connections, prepared statements
                    for clients in CLIENTS:
                        runs = found.setdefault((system, clients), [])
                        runs.append(systems.load(port, token, clients, seconds))
    return found


def medians(found: Rounds, figure: str) -> dict[str, dict[str, float]]:
    table: dict[str, dict[str, float]] = {}
    for (system, clients), runs in found.items():
        median = statistics.median(run[figure] for run in runs)
        table.setdefault(system, {})[str(clients)] = round(median, 3)
    return table


def ratio(found: Rounds, figure: str, clients: int, baseline: str) -> float:
    """How many times the baseline's figure ours is, in the same round; the median of the rounds."""
    pairs = zip(found["usher", clients], found[baseline, clients], strict=True)
    ratios: list[float] = [ours[figure] / theirs[figure] for ours, theirs in pairs]
    return round(statistics.median(ratios), 3)


def judged(found: Rounds) -> dict[str, reports.Row]:
    of_direct = ratio(found, "per_second", MANY, "direct_insert")
    of_job = ratio(found, "per_second", MANY, "job_per_change")
    p50 = ratio(found, "p50_ms", ONE, "direct_insert")
    rates = reports.at_least(of_direct, GOAL_OF_DIRECT, of_job=of_job, goal_of_job=GOAL_OF_JOB)
    rates["met"] = rates["met"] and of_job >= GOAL_OF_JOB
    return {
        "creates_per_second": rates | medians(found, "per_second"),
        "p50_ms": reports.at_most(p50, GOAL_OF_P50) | medians(found, "p50_ms"),
    }


def show(found: Rounds) -> None:
    table = Table(title="Creates through HTTP, durable, one api process and one worker")
    for column in ("system", "clients", "creates/s", "of direct", "p50 ms", "of direct", "p99 ms"):
        table.add_column(column, justify="left" if column == "system" else "right")
    rates, p50, p99 = (medians(found, figure) for figure in ("per_second", "p50_ms", "p99_ms"))
    for system in rates:
        for clients in map(str, CLIENTS):
            base = rates.get("direct_insert", rates[system])[clients]
            base_p50 = p50.get("direct_insert", p50[system])[clients]
            table.add_row(
                system,
                clients,
                f"{rates[system][clients]:.0f}",
                f"{rates[system][clients] / base:.2f}",
                f"{p50[system][clients]:.2f}",
                f"{p50[system][clients] / base_p50:.2f}",
                f"{p99[system][clients]:.2f}",
            )
    Console(width=100).print(table)


def main() -> None:
    parser = reports.arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one load (default 3)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds over all systems (default 5)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    args = parser.parse_args()
    found = measure(args.seconds, args.rounds, tuple(args.systems))
    show(found)
    if set(args.systems) != set(SYSTEMS):
        return  # there is nothing to be judged against
    rows: dict[str, Any] = judged(found)
    reports.show("Of the baselines, in the same round", {name: figures(row) for name, row in rows.items()})
    reports.write(rows | {"p99_ms": medians(found, "p99_ms")}, args.out)


def figures(row: reports.Row) -> reports.Row:
    """Leave the tables out of a row."""
    return {name: value for name, value in row.items() if not isinstance(value, dict)}


if __name__ == "__main__":
    main()
