"""Creates a second, and the median time of one, for Usher and the baselines: `make bench`.

Everything runs on the same embedded servers with durable commits, one api process and one worker each,
in turns, so that a drift of the machine's speed falls on all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import baselines
import psycopg
from rich.console import Console
from rich.table import Table

from usher_core.store import migrations
from usher_core.testing import servers, stacks

HERE = Path(__file__).parent
CLIENTS = (1, 16, 64)
SYSTEMS = ("usher", "direct_insert", "job_per_change")


@contextlib.contextmanager
def process(*command: str, env: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(command, env=env, cwd=HERE, stdout=subprocess.DEVNULL)
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
        env = {"USHER_LOG_LEVEL": "warning"}
        with stacks.Stack(up.database.app, up.redis_url, folder, env) as stack:
            access = asyncio.run(stack.make_tenant())
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


def load(port: int, token: str, clients: int, seconds: float) -> dict[str, float]:
    command = (sys.executable, "load.py", "127.0.0.1", str(port), str(clients), str(seconds), token)
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=seconds + 60)
    if done.returncode:
        raise SystemExit(f"the load generator failed: {done.stderr}")
    result: dict[str, float] = json.loads(done.stdout)
    if result["failures"]:
        raise SystemExit(f"{result['failures']} requests were not answered 201")
    return result


def measure(seconds: float, rounds: int, systems: tuple[str, ...]) -> dict[str, Any]:
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    with (
        tempfile.TemporaryDirectory(prefix="usher-bench-") as folder,
        servers.start_servers(Path(folder)) as up,
    ):
        migrations.upgrade(up.database.owner)
        with psycopg.connect(up.database.owner, autocommit=True) as owner:
            owner.execute(baselines.TABLE)
            owner.execute("GRANT SELECT, INSERT ON baseline TO usher_app")
        for _ in range(rounds):
            for system in systems:
                with serving(system, up, Path(folder)) as (port, token):
                    load(port, token, 4, 1.0)  # warm up: connections, prepared statements
                    for clients in CLIENTS:
                        found.setdefault((system, clients), []).append(load(port, token, clients, seconds))

    def medians(name: str) -> dict[str, dict[str, float]]:
        return {
            system: {
                str(clients): round(statistics.median(run[name] for run in found[system, clients]), 3)
                for clients in CLIENTS
            }
            for system in systems
        }

    return {
        "creates_per_second": medians("per_second"),
        "p50_ms": medians("p50_ms"),
        "p99_ms": medians("p99_ms"),
    }


def show(result: dict[str, Any]) -> None:
    table = Table(title="Creates through HTTP, durable, one api process and one worker")
    for column in ("system", "clients", "creates/s", "of direct", "p50 ms", "of direct", "p99 ms"):
        table.add_column(column, justify="left" if column == "system" else "right")
    rates, p50, p99 = result["creates_per_second"], result["p50_ms"], result["p99_ms"]
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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="length of one load (default 5)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all systems (default 3)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    args = parser.parse_args()
    result = measure(args.seconds, args.rounds, tuple(args.systems))
    show(result)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(args.out.read_text()) if args.out.exists() else {}
    args.out.write_text(json.dumps(before | result, indent=2) + "\n")
    print(f"written to {args.out}")


if __name__ == "__main__":
    main()
