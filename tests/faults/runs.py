"""One run from beginning to end: clients and faults on a whole Usher, then the check of what came of it.

`test_histories` and `soak` call `run`; `test_checker` uses the pieces with faults of its own planted. All
that is left to chance comes from one seed; what runs at the same time does not, so that a seed brings back
the same load and the same faults, and not the same history.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import os
import random
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import checks
import evidences
import messages
import orjson
import psycopg
import redis
import wires
from clients import Client
from deployments import Deployment, planted, running, until
from evidences import DEAD_LETTERS, Evidence
from histories import Attempt, History, Operation
from nemeses import Nemesis
from plants import DEADLY
from rich.console import Console
from rich.table import Table
from workloads import Workload

from usher_core.testing import stacks

FOLDER = Path(__file__).parents[2] / "build" / "faults"
TENANTS, CLIENTS = 4, 20
BURIED_WITHIN = 120.0
SHOWN = 30


@dataclasses.dataclass(slots=True)
class Result:
    """What a run came to."""

    seed: str
    history: History
    found: dict[str, Evidence]
    violations: list[checks.Violation]
    struck: collections.Counter[str]
    naps: list[tuple[int, int]]
    seconds: float
    folder: Path

    @property
    def acknowledged(self) -> int:
        """Writes that were answered with success."""
        return sum(not one.operation.is_read and one.is_acknowledged for one in self.history.attempts)

    @property
    def committed_during_naps(self) -> int:
        """Changes that others applied while a worker slept in the middle of a transaction."""
        rows = [row for evidence in self.found.values() for row in evidence.rows]
        return sum(begun < row.applied_at < ended for begun, ended in self.naps for row in rows)


def seed() -> str:
    """Tell the seed of this run: that of the environment, or one by chance."""
    return os.environ.get("USHER_FAULTS_SEED") or f"{random.SystemRandom().randrange(1 << 32):08x}"


async def run(
    folder: Path,
    seed: str,
    *,
    acknowledged: int = 0,
    seconds: float = 0.0,
    pause: float = 2.0,
    later: float = 2.0,
) -> Result:
    """Run until so many writes are acknowledged, so many seconds are over, and each fault has come.

    `pause`: seconds between two faults, on average; `later`: when each has come once.
    """
    history_file = (folder / "history.jsonl").open("wb")
    with history_file:
        history = History(history_file)
        started = time.monotonic()
        async with running(folder, tenants=TENANTS, worker=planted("death")) as deployment:
            nemesis = Nemesis(deployment, seed, pause=pause, later=later)
            goal = _Goal(history, nemesis, acknowledged, started + seconds)
            async with (
                background(nemesis.run()),
                background(_kill_by_change(history, deployment, nemesis, seed, goal)),
            ):
                await load(history, deployment, seed, goal.is_reached)
            await ask_again(history, deployment, seed)
            found = await collect(deployment)
    violations = checks.check(history, found)
    took = time.monotonic() - started
    result = Result(seed, history, found, violations, nemesis.struck, deployment.naps, took, folder)
    (folder / "found.json").write_bytes(
        orjson.dumps({tenant: dataclasses.asdict(one) for tenant, one in found.items()})
    )
    (folder / "violations.txt").write_text("\n".join(map(str, violations)))
    return result


class _Goal:
    """When a run has seen enough."""

    def __init__(self, history: History, nemesis: Nemesis, acknowledged: int, until: float) -> None:
        self._history = history
        self._nemesis = nemesis
        self._wanted = acknowledged
        self._until = until
        self._counted = self._acknowledged = 0
        self.has_buried = False

    def is_reached(self) -> bool:
        # The last ones may still be waited for: they count when nobody does any more.
        attempts = self._history.attempts
        while self._counted < len(attempts) - 200:
            one = attempts[self._counted]
            self._acknowledged += not one.operation.is_read and one.is_acknowledged
            self._counted += 1
        return (
            self._acknowledged >= self._wanted
            and time.monotonic() >= self._until
            and self._nemesis.has_dealt_all
            and self.has_buried
        )


async def load(
    history: History,
    deployment: Deployment,
    seed: str,
    is_over: Callable[[], bool],
    weights: dict[str, int] | None = None,
    clients: int = CLIENTS,
) -> None:
    """Let clients of every tenant work until it is over."""
    async with asyncio.TaskGroup() as group:
        for number, access in enumerate(deployment.tenants):
            workload = Workload(f"{seed} {number}", weights)
            for place in range(clients):
                name = f"{seed} {number} {place}"
                client = Client(history, str(access.tenant), access.token, deployment.ports, workload, name)
                group.create_task(client.run(is_over))


async def ask_again(
    history: History, deployment: Deployment, seed: str, most: int = 60, patience: float = 60.0
) -> None:
    """Let clients of every tenant insist on what nobody told them the end of, when nothing fails any more."""
    for link in deployment.links:
        link.heal()
    await until(lambda: all(pod.stack.is_ready() for pod in deployment.apis), 60)
    history.note_whole()
    last = {attempt.wish: attempt for attempt in history.attempts}
    unheard = [one for one in last.values() if not (one.is_definite or one.operation.deadly)]
    async with asyncio.TaskGroup() as group:
        for number, access in enumerate(deployment.tenants):
            tenant, name = str(access.tenant), f"{seed} {number} again"
            wanted = [one for one in unheard if one.tenant == tenant]
            for place, attempt in enumerate(random.Random(name).sample(wanted, min(most, len(wanted)))):
                workload = Workload(name)
                client = Client(history, tenant, access.token, deployment.ports, workload, f"{name} {place}")
                group.create_task(_insist(client, attempt, patience))


async def _insist(client: Client, attempt: Attempt, patience: float) -> None:
    with contextlib.closing(client):
        await client.insist(attempt, patience)


async def _kill_by_change(
    history: History, deployment: Deployment, nemesis: Nemesis, seed: str, goal: _Goal
) -> None:
    """Send a change that kills its worker, another if it was lost, until one is a dead letter."""
    access = deployment.tenants[-1]
    workload = Workload(seed)
    client = Client(history, str(access.tenant), access.token, deployment.ports, workload, f"{seed} deadly")
    await asyncio.sleep(random.Random(seed).uniform(0.0, 10.0))
    nemesis.spares_valkey = True
    with contextlib.closing(client):
        while not goal.has_buried:
            wanted = Operation("create_user", name="deadly@example.com", title=DEADLY, deadly=True)
            await client.want(wanted, lambda: True)
            await asyncio.sleep(1.0)
            # One that was lost on its way to the queue, or with it, never comes.
            await until(lambda: not _is_queued(deployment, access), BURIED_WITHIN)
            goal.has_buried = await asyncio.to_thread(_is_buried, deployment, access)
    nemesis.spares_valkey = False
    nemesis.struck["worker killed by a change"] += 1


def _is_queued(deployment: Deployment, access: stacks.Access) -> bool:
    with redis.Redis.from_url(deployment.servers.redis_url) as client:
        try:
            entries = client.xrange(f"usher:{{{access.tenant}}}:changes")
        except redis.RedisError:
            return True  # it is away: nobody knows
    return any(DEADLY.encode() in entry[b"c"] for _, entry in entries)


def _is_buried(deployment: Deployment, access: stacks.Access) -> bool:
    # PostgreSQL may be away for now.
    url = deployment.servers.database.owner
    with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url) as owner:
        return owner.execute(DEAD_LETTERS, (access.tenant,)).fetchone() is not None
    return False


@contextlib.asynccontextmanager
async def background(work: Awaitable[None]):  # type: ignore[no-untyped-def]
    """Do something beside the body, until the body ends; if it fails, so does the body."""
    task = asyncio.ensure_future(work)
    body = asyncio.current_task()
    assert body is not None

    def tell(done: asyncio.Future[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            body.cancel()

    task.add_done_callback(tell)
    try:
        yield task
    except asyncio.CancelledError:
        failure = task.exception() if task.done() and not task.cancelled() else None
        if failure is None:
            raise
        raise failure from None
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def collect(deployment: Deployment) -> dict[str, Evidence]:
    """Let all come to rest, and look at what there is."""
    await deployment.settle()
    up = deployment.servers
    (deployment.folder / "last").mkdir()
    found = {}
    last = stacks.Stack(up.database.app, up.redis_url, deployment.folder / "last")
    try:
        await asyncio.to_thread(last.start_api)
        for access in deployment.tenants:
            users = [messages.user(one) for one in await _all(last.port, access.token, "Users")]
            groups = [messages.group(one) for one in await _all(last.port, access.token, "Groups")]
            tenant = str(access.tenant)
            found[tenant] = await asyncio.to_thread(
                evidences.collect, up.database.owner, up.redis_url, tenant, users, groups
            )
    finally:
        await asyncio.to_thread(last.stop)
    return found


async def _all(port: int, token: str, endpoint: str) -> list[dict[str, Any]]:
    wire = wires.Wire(port)
    listed: list[dict[str, Any]] = []
    while True:
        path = f"{messages.BASE}/{endpoint}?count=100&startIndex={len(listed) + 1}"
        answer = await wire.send(messages.Request("GET", path), token, "at-the-end", 30.0)
        page = orjson.loads(answer.body).get("Resources", [])
        listed += page
        if not page:
            wire.close()
            return listed


def keep(result: Result) -> Path:
    """Keep what a run left behind, and tell where."""
    kept = FOLDER / result.seed
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    for path in result.folder.iterdir():
        if path.is_file():
            shutil.copy(path, kept)
        elif path.name != "servers":
            shutil.copytree(path, kept / path.name)
    return kept


def show(result: Result, console: Console) -> None:
    """Print what was asked and answered, what went wrong, and what should not have been."""
    statuses = sorted(
        {_told(one.status) for one in result.history.attempts}, key=lambda one: (not one.isdigit(), one)
    )
    counts = collections.Counter((one.operation.kind, _told(one.status)) for one in result.history.attempts)
    table = Table(title=f"Seed {result.seed}: {result.acknowledged} acknowledged in {result.seconds:.0f} s")
    table.add_column("operation")
    for status in statuses:
        table.add_column(status, justify="right")
    for kind in sorted({kind for kind, _ in counts}):
        table.add_row(kind, *(str(counts[kind, status] or "") for status in statuses))
    console.print(table)
    table = Table("fault", "times")
    for name, count in sorted(result.struck.items()):
        table.add_row(name, str(count))
    console.print(table)
    console.print(
        f"{len(result.naps)} naps in a transaction, {result.committed_during_naps} changes applied meanwhile;"
        f" {len(result.violations)} violations"
    )
    for violation in result.violations[:SHOWN]:
        console.print(str(violation), markup=False, highlight=False)


def _told(status: int | None) -> str:
    return "no answer" if status is None else str(status)


def by_rule(violations: Sequence[checks.Violation]) -> collections.Counter[str]:
    """Count violations by the rule that they break."""
    return collections.Counter(violation.rule for violation in violations)
