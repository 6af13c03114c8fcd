"""Requests made at random against a whole Usher: no answer of 500 or above, and each of them SCIM's.

Api, worker, PostgreSQL and Valkey are started for it. The writes are carried out, so the SQL is tried too.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path
from random import Random
from typing import Any

import mutations
import psutil
import seeds
import watches

from usher_core.store import migrations
from usher_core.testing import servers, stacks

BASE = "/iam/scim/v2"


class Client:
    """One connection to a tenant; knows two resources to change."""

    def __init__(self, access: stacks.Access, port: int) -> None:
        self._access = access
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self.user = self._create("Users", {"userName": "ada@x.io"})
        self.group = self._create("Groups", {"displayName": "Team"})

    def send(self, method: str, path: str, body: bytes | None) -> tuple[int, bytes]:
        """Send a request and read the whole answer."""
        self._connection.request(method, path, body, self._access.headers)
        answer = self._connection.getresponse()
        return answer.status, answer.read()

    def _create(self, endpoint: str, body: dict[str, Any]) -> str:
        status, answer = self.send("POST", f"{BASE}/{endpoint}", json.dumps(body).encode())
        assert status == 201, answer
        return str(json.loads(answer)["id"])


def request(client: Client, random: Random) -> tuple[str, str, bytes | None]:
    """Make up a request."""
    endpoint, known = random.choice((("Users", client.user), ("Groups", client.group)))
    method = random.choice(("GET", "GET", "POST", "PUT", "PATCH", "PATCH", ".search", "Bulk"))
    if method == "GET":
        if random.random() < 0.5:
            text = _made("text", random).decode("utf-8", "replace")
            query = "filter=" + urllib.parse.quote(text[:6000])
        else:
            query = urllib.parse.quote_from_bytes(_made("query", random)[:6000], safe="=&%+[]()\"'")
        place = random.choice(("", f"/{endpoint}", f"/{endpoint}", f"/{endpoint}/{known}"))
        return "GET", f"{BASE}{place}?{query}", None
    if method == "Bulk":
        return "POST", f"{BASE}/Bulk", _made("bulk", random)
    body = _made("json", random).replace(seeds.SOMEBODY.encode(), client.user.encode())
    if method == ".search":
        return "POST", f"{BASE}/{endpoint}/.search", body
    return method, f"{BASE}/{endpoint}" + ("" if method == "POST" else f"/{known}"), body


def _made(form: str, random: Random) -> bytes:
    return mutations.mutate(form, random.choice(seeds.of_form(form)), random, 65_536)


def fault(status: int, answer: bytes) -> str | None:
    """Say what is wrong with an answer; `None`: nothing."""
    if status >= 500:
        return f"answered {status}"
    if status in (204, 304):
        return None
    try:
        json.loads(answer)["schemas"]
    except (ValueError, TypeError, KeyError):
        return f"{status} with a body that is not SCIM's"
    return None


def run(seconds: float, folder: Path, seed: int) -> watches.Report:
    """Send requests for some seconds."""
    report = watches.Report("http", "random")
    random = Random(seed)
    with tempfile.TemporaryDirectory() as beside, servers.start_servers(Path(beside)) as started:
        migrations.upgrade(started.database.owner)
        env = {"USHER_LOG_LEVEL": "warning"}
        with stacks.Stack(started.database.app, started.redis_url, Path(beside), env) as stack:
            client = Client(asyncio.run(stack.make_tenant()), stack.port)
            processes = [psutil.Process(pid) for pid in (stack.api_pid, *stack.worker_pids)]
            report.memory_at_start = _memory(processes)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                method, path, body = request(client, random)
                spent = -time.perf_counter()
                status, answer = client.send(method, path, body)
                spent += time.perf_counter()
                report.inputs += 1
                if spent * 1000 > report.slowest:
                    report.slowest, report.slowest_part = spent * 1000, f"{method} {path[:60]}"
                wrong = fault(status, answer)
                if wrong is not None and f"http: {method}: {wrong}" not in report.failures:
                    report.failures[f"http: {method}: {wrong}"] = _keep(folder, method, path, body, answer)
            report.memory_at_end = _memory(processes)
            for name in ("api", "worker-0"):
                (folder / f"http-{name}.log").write_text(stack.log(name))
    return report


def _memory(processes: list[psutil.Process]) -> float:
    alive = [child for process in processes for child in (process, *process.children(recursive=True))]
    return float(sum(process.memory_info().rss for process in alive)) / watches.MEGABYTE


def _keep(folder: Path, method: str, path: str, body: bytes | None, answer: bytes) -> str:
    kept = folder / f"http-{uuid.uuid4().hex[:16]}"
    kept.write_bytes(f"{method} {path}\n\n".encode() + (body or b"") + b"\n\n" + answer)
    return str(kept)


def main() -> None:
    """Run in this process and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    given = parser.parse_args()
    run(given.seconds, given.folder, given.seed).write(given.report)


if __name__ == "__main__":
    main()
