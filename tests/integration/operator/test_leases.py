"""Leader election against a strict API server: one at work, and none that can't be sure to be the one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from kmock._internal import references, rendering
from kubernetes.aio import client

from usher_operator import clients, leases

if TYPE_CHECKING:
    from conftest import Cluster

LEASES = references.resource("coordination.k8s.io", "v1", "leases")
TIMING = leases.Timing(duration=3.0, deadline=1.5, retry=0.2, grace=0.5)


@pytest.fixture
async def api(cluster: Cluster) -> AsyncIterator[client.ApiClient]:
    connected = await clients.connect()
    async with connected:
        yield connected


class Candidate:
    """An operator that wants the lease, and notes when it works."""

    def __init__(self, api: client.ApiClient, name: str) -> None:
        self.working = asyncio.Event()
        self.finish = asyncio.Event()
        self.ended_at = 0.0
        lease = leases.Lease(api, "identity", "usher-operator", name, TIMING)
        self.task = asyncio.create_task(lease.hold(self._work))

    async def _work(self) -> None:
        self.working.set()
        try:
            await self.finish.wait()
        finally:
            self.working.clear()
            self.ended_at = time.monotonic()

    async def works(self, patience: float) -> None:
        async with asyncio.timeout(patience):
            await self.working.wait()

    async def die(self) -> None:
        """End without giving anything back."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


def holder(cluster: Cluster) -> str:
    return str((cluster.get(LEASES, "usher-operator") or {})["spec"]["holderIdentity"])


async def test_of_two_one_works_and_the_other_follows_at_once_when_it_ends(
    cluster: Cluster, api: client.ApiClient
) -> None:
    first = Candidate(api, "first")
    await first.works(5)
    second = Candidate(api, "second")
    await asyncio.sleep(TIMING.duration + 1)
    assert not second.working.is_set()
    assert holder(cluster) == "first"
    first.finish.set()
    await first.task
    await second.works(2)
    assert holder(cluster) == "second"
    second.finish.set()
    await second.task


async def test_a_holder_that_dies_is_followed_when_its_time_is_over(
    cluster: Cluster, api: client.ApiClient
) -> None:
    first = Candidate(api, "first")
    await first.works(5)
    second = Candidate(api, "second")
    await asyncio.sleep(2 * TIMING.retry)
    await first.die()
    await second.works(TIMING.duration + 2 * TIMING.retry + 2)
    spec = (cluster.get(LEASES, "usher-operator") or {})["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 1)
    await second.die()


@pytest.mark.parametrize("hangs", [False, True], ids=["refused", "no answer"])
async def test_a_holder_that_can_not_renew_stops_before_another_may_begin(
    cluster: Cluster, api: client.ApiClient, hangs: bool
) -> None:
    async def fault(request: rendering.Request) -> int | None:
        if hangs:
            await asyncio.sleep(1)
        return 503

    first = Candidate(api, "first")
    await first.works(5)
    cluster.api.faults.append(fault)
    cut = time.monotonic()
    await asyncio.sleep(TIMING.duration - TIMING.grace)
    assert not first.working.is_set()
    assert first.ended_at - cut < TIMING.duration - TIMING.grace
    await asyncio.sleep(TIMING.duration)
    assert not first.working.is_set(), "nobody works while it is away"
    cluster.api.faults.clear()
    await first.works(5)
    assert (cluster.get(LEASES, "usher-operator") or {})["spec"]["leaseTransitions"] == 0
    first.finish.set()
    await first.task


async def test_a_holder_that_was_followed_meanwhile_leaves(cluster: Cluster, api: client.ApiClient) -> None:
    async def fault(request: rendering.Request) -> int | None:
        return 503

    first = Candidate(api, "first")
    await first.works(5)
    cluster.api.faults.append(fault)
    await asyncio.sleep(TIMING.duration)
    await cluster.patch(LEASES, "usher-operator", {"spec": {"holderIdentity": "second"}})
    cluster.api.faults.clear()
    with pytest.raises(leases.LeaseLost):
        await first.task
    assert not first.working.is_set()
    assert holder(cluster) == "second"


async def test_a_holder_whose_work_does_not_end_leaves(cluster: Cluster, api: client.ApiClient) -> None:
    async def fault(request: rendering.Request) -> int | None:
        return 503

    async def work() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if over.is_set():
                    raise

    over = asyncio.Event()
    lease = leases.Lease(api, "identity", "usher-operator", "first", TIMING)
    holding = asyncio.create_task(lease.hold(work))
    await asyncio.sleep(1)
    cluster.api.faults.append(fault)
    with pytest.raises(leases.LeaseLost):
        await holding
    over.set()
    cluster.api.faults.clear()


async def test_a_short_outage_is_survived(cluster: Cluster, api: client.ApiClient) -> None:
    async def fault(request: rendering.Request) -> int | None:
        return 503

    first = Candidate(api, "first")
    await first.works(5)
    cluster.api.faults.append(fault)
    await asyncio.sleep(TIMING.deadline / 2)
    cluster.api.faults.clear()
    await asyncio.sleep(TIMING.deadline)
    assert first.working.is_set()
    first.finish.set()
    await first.task


async def test_a_lease_that_another_one_took_is_lost_at_once(cluster: Cluster, api: client.ApiClient) -> None:
    first = Candidate(api, "first")
    await first.works(5)
    await cluster.patch(LEASES, "usher-operator", {"spec": {"holderIdentity": "thief"}})
    with pytest.raises(leases.LeaseLost):
        await first.task
    assert holder(cluster) == "thief"
