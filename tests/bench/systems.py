"""What is measured: an Usher on embedded servers with durable commits, and the load on it.

The servers are fresh, but as if they had run for a while: a new PostgreSQL has no used WAL files, and all
commits wait while it makes the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from usher_core.store import migrations
from usher_core.testing import servers, stacks

HERE = Path(__file__).parent
QUIET = {"USHER_LOG_LEVEL": "warning"}

WAL_FILES = 40
"""Files of 16 MB that stand ready: more than any part of the benchmarks writes."""
WAL_SETTINGS = {"min_wal_size": "1GB", "max_wal_size": "4GB"}

Result = dict[str, Any]


@contextlib.contextmanager
def serving() -> Iterator[tuple[servers.Servers, Path]]:
    """Start the servers with an up-to-date schema; yields a folder for logs too."""
    with (
        tempfile.TemporaryDirectory(prefix="usher-bench-") as folder,
        servers.start_servers(Path(folder), WAL_SETTINGS) as up,
    ):
        _use_wal(up)
        migrations.upgrade(up.database.owner)
        yield up, Path(folder)


def _use_wal(up: servers.Servers) -> None:
    """Fill WAL files and checkpoint: they are kept, to be used again."""
    with psycopg.connect(up.postgres.url, autocommit=True) as superuser:
        for _ in range(WAL_FILES):
            superuser.execute("SELECT pg_logical_emit_message(false, 'bench', ''), pg_switch_wal()")
        superuser.execute("CHECKPOINT")


@contextlib.contextmanager
def usher(up: servers.Servers, folder: Path, *, processes: int = 1) -> Iterator[stacks.Stack]:
    """Run so many processes of the api, and as many workers."""
    stack = stacks.Stack(up.database.app, up.redis_url, folder, QUIET, api_processes=processes)
    with stack:
        for _ in range(processes - 1):
            stack.start_worker()
        yield stack


def make_tenants(stack: stacks.Stack, count: int) -> list[stacks.Access]:
    return [asyncio.run(stack.make_tenant(f"bench-{number}")) for number in range(count)]


class Load:
    """A load generator that runs beside this process, from now on."""

    def __init__(self, port: int, token: str, clients: int, seconds: float, every: float = 0.0) -> None:
        command = (sys.executable, "load.py", str(port), str(clients), str(seconds), str(every))
        self._seconds = seconds
        self._process = subprocess.Popen(
            command,
            cwd=HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        # Not on the command line, where every user of the machine could read it.
        self._process.stdin.write(token + "\n")
        self._process.stdin.flush()

    def result(self, *, may_fail: bool = False) -> Result:
        """Wait for its end; what was not answered 201 ends the benchmark, unless it may fail."""
        out, err = self._process.communicate(timeout=self._seconds + 60)
        if self._process.returncode:
            raise SystemExit(f"the load generator failed: {err}")
        result: Result = json.loads(out)
        if result["failures"] and not may_fail:
            raise SystemExit(f"{result['failures']} requests were not answered 201")
        return result


def load(port: int, token: str, clients: int, seconds: float, every: float = 0.0) -> Result:
    """Load a server, alone, and return what was measured."""
    return Load(port, token, clients, seconds, every).result()
