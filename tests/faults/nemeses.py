"""What goes wrong: each fault begins when its context is entered and is over when it is left.

`Nemesis` brings them on, by chance, one after another in two lanes: what happens to processes and servers,
and what happens to the links between them. Each is dealt once before any comes again.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, TypeAlias

import histories
import psycopg
import redis
from deployments import Deployment, Pod, until
from links import Link

Fault: TypeAlias = Callable[[Deployment, random.Random], contextlib.AbstractAsyncContextManager[None]]

ASLEEP = 10.0
IN_TRANSACTION = """
SELECT count(*) FROM pg_stat_activity
 WHERE application_name = 'usher-worker' AND client_port = ANY(%s) AND xact_start IS NOT NULL
   AND state IN ('active', 'idle in transaction') AND wait_event = 'ClientRead'
   AND greatest(xact_start, state_change) < clock_timestamp() - interval '20 milliseconds'
"""


@contextlib.asynccontextmanager
async def killed_worker(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Kill a worker with -9."""
    await _kill(chance.choice(deployment.workers))
    yield


@contextlib.asynccontextmanager
async def killed_api(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Kill an api with -9."""
    await _kill(chance.choice(deployment.apis))
    yield


@contextlib.asynccontextmanager
async def sleeping_worker(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Stop a worker in the middle of a transaction, and let it go on when another has long taken over."""
    pod = chance.choice(deployment.workers)
    caught: list[int] = []
    try:
        with psycopg.connect(deployment.servers.database.admin, autocommit=True) as admin:
            await until(lambda: _catch(admin, pod, caught), 60)
        fell_asleep = histories.wall()
        yield
        await asyncio.sleep(ASLEEP)
        deployment.naps.append((fell_asleep, histories.wall()))
    finally:
        for pid in caught:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextlib.asynccontextmanager
async def emptied_valkey(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Kill Valkey with -9 and delete its data."""
    valkey = deployment.servers.valkey
    await asyncio.to_thread(valkey.kill)
    for path in valkey.data.glob("appendonlydir*"):
        shutil.rmtree(path)
    try:
        yield
    finally:
        await asyncio.to_thread(valkey.start)


@contextlib.asynccontextmanager
async def killed_valkey(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Kill Valkey with -9: it comes back with its data, but for the last second perhaps."""
    await asyncio.to_thread(deployment.servers.valkey.kill)
    try:
        yield
    finally:
        await asyncio.to_thread(deployment.servers.valkey.start)


@contextlib.asynccontextmanager
async def full_valkey(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Leave Valkey no memory: less than it uses."""
    client = redis.Redis.from_url(deployment.servers.redis_url)
    try:
        client.config_set("maxmemory", int(client.info("memory")["used_memory"] * chance.uniform(0.5, 1.05)))
        yield
    finally:
        client.config_set("maxmemory", 0)
        client.close()


@contextlib.asynccontextmanager
async def stopped_postgresql(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Stop PostgreSQL at once, as a crash does."""
    postgres = deployment.servers.postgres
    os.kill(postgres.pid, signal.SIGQUIT)
    await asyncio.to_thread(postgres.wait)
    try:
        yield
    finally:
        await asyncio.to_thread(postgres.start)


@contextlib.asynccontextmanager
async def cut_link(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """End the connections of a link, again and again."""
    link = chance.choice(deployment.links)
    cutting = asyncio.create_task(_cut_often(link, chance))
    try:
        yield
    finally:
        cutting.cancel()
        await asyncio.gather(cutting, return_exceptions=True)


@contextlib.asynccontextmanager
async def refused_link(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Let a process reach a backend no more."""
    async with _ailing(chance.choice(deployment.links)) as link:
        link.refuse()
        yield


@contextlib.asynccontextmanager
async def slow_link(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Delay what goes over a link."""
    async with _ailing(chance.choice(deployment.links)) as link:
        link.delay = chance.uniform(0.01, 0.3)
        yield


@contextlib.asynccontextmanager
async def swallowing_link(deployment: Deployment, chance: random.Random) -> AsyncIterator[None]:
    """Let a link take everything and pass nothing on; in the end it is cut, or all comes late."""
    async with _ailing(chance.choice(deployment.links)) as link:
        link.swallow()
        yield
        if chance.random() < 0.7:
            link.cut()


SERVERS: Mapping[str, tuple[Fault, float]] = {
    "worker killed": (killed_worker, 0.5),
    "worker asleep in a transaction": (sleeping_worker, 0.1),
    "api killed": (killed_api, 1.0),
    "Valkey killed and emptied": (emptied_valkey, 1.0),
    "Valkey killed": (killed_valkey, 0.5),
    "Valkey full": (full_valkey, 4.0),
    "PostgreSQL stopped": (stopped_postgresql, 2.0),
}
"""Faults of processes and servers, and how long each lasts at most, in seconds."""

LINKS: Mapping[str, tuple[Fault, float]] = {
    "link cut": (cut_link, 2.0),
    "link refused": (refused_link, 3.0),
    "link slow": (slow_link, 4.0),
    "link swallowing": (swallowing_link, 3.0),
}


EMPTYING = frozenset({"Valkey killed and emptied", "Valkey killed"})
"""What may take away a change that is on its way to kill workers, and what is known of it."""


class Nemesis:
    """Brings faults on, by chance, until it is stopped; `struck` counts them."""

    def __init__(self, deployment: Deployment, seed: str, *, pause: float, later: float) -> None:
        """`pause`: seconds between two faults of a lane, on average; `later`: when each has come once."""
        self._deployment = deployment
        self._seed = seed
        self._pauses = pause, later
        self.struck: collections.Counter[str] = collections.Counter()
        self.spares_valkey = False
        """Whether Valkey keeps what it holds for now."""

    @property
    def has_dealt_all(self) -> bool:
        """Whether each fault has come at least once, and is over."""
        return all(self.struck[name] for name in (*SERVERS, *LINKS))

    async def run(self) -> None:
        """Go on until cancelled; whatever is wrong then is set right first."""
        await asyncio.gather(self._lane("servers", SERVERS), self._lane("links", LINKS))

    async def _lane(self, name: str, faults: Mapping[str, tuple[Fault, float]]) -> None:
        chance = random.Random(f"{self._seed} {name}")
        dealt: list[str] = []
        while True:
            await asyncio.sleep(chance.uniform(0.1, 2 * self._pauses[self.has_dealt_all]))
            dealt = dealt or chance.sample(list(faults), len(faults))
            allowed = [one for one in dealt if not (self.spares_valkey and one in EMPTYING)]
            if not allowed:
                continue
            dealt.remove(allowed[0])
            strike, longest = faults[allowed[0]]
            async with strike(self._deployment, chance):
                await asyncio.sleep(chance.uniform(0.1, 1.0) * longest)
            self.struck[allowed[0]] += 1


async def _running(pod: Pod) -> int:
    await until(lambda: pod.pid is not None, 60)
    pid = pod.pid
    assert pid is not None
    return pid


async def _kill(pod: Pod) -> None:
    pid = await _running(pod)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _catch(admin: psycopg.Connection[Any], pod: Pod, caught: list[int]) -> bool:
    """Stop a worker, and note it; if it has no transaction open just then let it go on."""
    pid = pod.pid
    if pid is None:
        return False
    # Something else may kill it at any time: then its successor is tried.
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        admin.execute("SELECT pg_sleep(0.05)")  # what was on its way has arrived by then
        [(count,)] = admin.execute(IN_TRANSACTION, (pod.database.upstream_ports,)).fetchall()
        if count and pod.pid == pid:
            caught.append(pid)
            return True
        os.kill(pid, signal.SIGCONT)
    return False


@contextlib.asynccontextmanager
async def _ailing(link: Link) -> AsyncIterator[Link]:
    try:
        yield link
    finally:
        link.heal()


async def _cut_often(link: Link, chance: random.Random) -> None:
    while True:
        link.cut()
        await asyncio.sleep(chance.uniform(0.02, 0.5))
