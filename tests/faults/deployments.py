"""An Usher as it runs in a cluster: two apis, two workers, PostgreSQL and Valkey, and a link for each pair.

What ends is started again, as Kubernetes does. Everything is the real thing, with durable commits; what is
different is only that each process reaches its backends over links that `nemeses` can break.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import re
import sys
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import psycopg
import redis
from evidences import pending
from links import Link

from usher_core.store import migrations
from usher_core.testing import processes, servers, stacks

PORT = re.compile(r"(@127\.0\.0\.1:)\d+")
PLANTS = Path(__file__).with_name("plants.py")
SETTINGS = {
    "USHER_APPLY_WAIT": "8",
    "USHER_DRAIN_SLICE": "0.3",
    "USHER_SWEEP_INTERVAL": "0.5",
    "USHER_LOG_LEVEL": "warning",
}
APIS, WORKERS = 2, 2


def planted(fault: str) -> tuple[str, ...]:
    """Name the command of an `usher` with a fault in it."""
    return (sys.executable, str(PLANTS), fault)


@dataclasses.dataclass(slots=True)
class Pod:
    """One process with its links, started again whenever it ends."""

    name: str
    stack: stacks.Stack
    database: Link
    queue: Link
    restarts: int = -1
    is_over: bool = False
    lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    keeper: asyncio.Task[None] | None = None

    @property
    def is_api(self) -> bool:
        """Whether it is an api, else a worker."""
        return self.name.startswith("api")

    @property
    def pid(self) -> int | None:
        """The process that runs now; `None` between two."""
        try:
            pid = self.stack.api_pid if self.is_api else self.stack.worker_pids[0]
        except (AssertionError, IndexError):
            return None
        return pid if processes.is_alive(pid) else None

    def start(self) -> None:
        """Begin to keep one process running."""
        self.keeper = asyncio.create_task(asyncio.to_thread(self._run), name=self.name)

    async def stop(self) -> None:
        """Stop the process in order, and start no other."""
        with self.lock:
            self.is_over = True
        while self.keeper is not None and not self.keeper.done():
            await asyncio.to_thread(self.stack.stop)
            # A start may have been under way: then there is one more to stop.
            await asyncio.wait([self.keeper], timeout=0.5)
        if self.keeper is not None:
            self.keeper.result()

    def _run(self) -> None:
        stack = self.stack
        start, wait, bury = stack.start_worker, stack.wait_for_worker, stack.kill_worker
        if self.is_api:
            start, wait, bury = stack.start_api, stack.wait_for_api, stack.kill_api  # type: ignore[assignment]
        while not self.is_over:
            self.restarts += 1
            # An api that can't reach PostgreSQL yet is not ready, and may end: then it is tried again.
            with contextlib.suppress(RuntimeError):
                start()
            wait()
            with self.lock:
                if not self.is_over:
                    bury()


class Deployment:
    """Servers, links, pods and tenants, for as long as `running` lasts."""

    def __init__(self, folder: Path, up: servers.Servers) -> None:
        self.folder = folder
        self.servers = up
        self.pods: list[Pod] = []
        self.tenants: list[stacks.Access] = []
        self.naps: list[tuple[int, int]] = []
        """When a worker slept in the middle of a transaction, by the wall clock."""

    @property
    def apis(self) -> list[Pod]:
        """The pods that serve."""
        return [pod for pod in self.pods if pod.is_api]

    @property
    def workers(self) -> list[Pod]:
        """The pods that apply."""
        return [pod for pod in self.pods if not pod.is_api]

    @property
    def links(self) -> list[Link]:
        """Every link."""
        return [link for pod in self.pods for link in (pod.database, pod.queue)]

    @property
    def ports(self) -> list[int]:
        """Where the apis listen."""
        return [pod.stack.port for pod in self.apis]

    async def add(self, name: str, command: Sequence[str] = stacks.COMMAND) -> None:
        """Add a pod, not started yet."""
        database = Link(f"{name} to PostgreSQL", self.servers.postgres.port)
        queue = Link(f"{name} to Valkey", self.servers.valkey.port)
        await database.open()
        await queue.open()
        folder = self.folder / name
        folder.mkdir()
        stack = stacks.Stack(
            PORT.sub(rf"\g<1>{database.port}", self.servers.database.app),
            PORT.sub(rf"\g<1>{queue.port}", self.servers.redis_url),
            folder,
            SETTINGS,
            command,
        )
        self.pods.append(Pod(name, stack, database, queue))

    async def start(self, tenants: int) -> None:
        """Start the pods, make tenants, and return when the apis are ready."""
        plain = stacks.Stack(self.servers.database.app, self.servers.redis_url, self.folder)
        self.tenants = [await plain.make_tenant() for _ in range(tenants)]
        for pod in self.pods:
            pod.start()
        await until(lambda: all(pod.stack.is_ready() for pod in self.apis), 60)

    async def settle(self, patience: float = 90.0) -> None:
        """Let every request end and every change have its turn: all links heal, the apis stop first."""
        for link in self.links:
            link.heal()
        await asyncio.gather(*(pod.stop() for pod in self.apis))
        client = redis.Redis.from_url(self.servers.redis_url)
        # Whether it comes to an end is for the checks to say.
        with (
            psycopg.connect(self.servers.database.owner, autocommit=True) as owner,
            contextlib.suppress(TimeoutError),
        ):
            tenants = [str(access.tenant) for access in self.tenants]
            await until(lambda: not any(pending(client, owner, one) for one in tenants), patience)
        client.close()

    async def stop(self) -> None:
        """Stop every process."""
        await asyncio.gather(*(pod.stop() for pod in self.pods))
        await asyncio.gather(*(link.close() for link in self.links))


@contextlib.asynccontextmanager
async def running(
    folder: Path, *, tenants: int, worker: Sequence[str] = stacks.COMMAND, api: Sequence[str] = stacks.COMMAND
) -> AsyncIterator[Deployment]:
    """Run a whole Usher with its data below `folder`, for as long as the body runs."""
    up = await asyncio.to_thread(servers.start_servers, folder / "servers")
    try:
        await asyncio.to_thread(migrations.upgrade, up.database.owner)
        deployment = Deployment(folder, up)
        try:
            for number in range(APIS):
                await deployment.add(f"api-{number}", api)
            for number in range(WORKERS):
                await deployment.add(f"worker-{number}", worker)
            await deployment.start(tenants)
            yield deployment
        finally:
            await deployment.stop()
    finally:
        await asyncio.to_thread(up.stop)


async def until(condition: Callable[[], Any], patience: float) -> None:
    """Wait until something elsewhere is so.

    Raises:
        TimeoutError: it is not after so many seconds.
    """
    async with asyncio.timeout(patience):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it is elsewhere
            await asyncio.sleep(0.05)
