"""Every tenant with work has its turn: the bound that docs/operations.md states, counted in turns."""

from __future__ import annotations

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import keys
from usher_core.testing import loads, stacks

BATCH = 4

Start = Callable[..., None]


@pytest.fixture
def load(database_urls: DatabaseUrls, redis_url: str) -> Iterator[loads.Load]:
    with loads.Load(database_urls.admin, redis_url) as opened:
        yield opened


@pytest.fixture
def start(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker of one process, with these settings."""
    with contextlib.ExitStack() as started:

        def start(**settings: str) -> None:
            env = {"USHER_BATCH_SIZE": str(BATCH)}
            env |= {f"USHER_{name.upper()}": value for name, value in settings.items()}
            stack = stacks.Stack(database_urls.app, redis_url, tmp_path, env)
            started.callback(stack.stop)
            stack.start_worker()

        yield start


def test_no_tenant_has_a_second_turn_before_all_that_wait_had_one(start: Start, load: loads.Load) -> None:
    tenants = load.make_tenants(30)
    for tenant in tenants:
        load.append(tenant, *(f"{number}@x" for number in range(3 * BATCH)))
    start(drain_slice="0.000001")  # a turn is a batch
    applied = load.wait_until_applied(30 * 3 * BATCH)
    turns = loads.slices(applied)
    for round_ in range(3):
        assert sorted(turns[round_ * 30 : round_ * 30 + 30]) == sorted(tenants), f"round {round_}"
    assert len(turns) == 90
    # In a tenant the order stays.
    by_tenant = collections.defaultdict(list)
    for one in applied:
        by_tenant[one.tenant].append(int(one.name.removesuffix("@x")) // BATCH)
    assert all(batches == [0] * BATCH + [1] * BATCH + [2] * BATCH for batches in by_tenant.values())


def test_a_large_backlog_does_not_delay_another_tenant(start: Start, load: loads.Load) -> None:
    large, small = load.make_tenants(2)
    load.append(large, *(f"{number}@x" for number in range(100 * BATCH)))
    start(drain_slice="0.000001")
    load.wait_until_applied(BATCH)
    with load.held(large):
        load.wait_until_held_up()
        before = len(load.applied())
        load.append(small, "a@x")
    load.wait_until_applied(100 * BATCH + 1)
    # The batch at hand, and the one at whose begin the drain learns that somebody waits.
    assert load.applied().index(loads.Applied(small, "a@x")) - before <= 2 * BATCH


def test_a_drain_that_only_lingers_gives_way_at_once(start: Start, load: loads.Load) -> None:
    idle, other = load.make_tenants(2)
    start(drain_linger="60", drain_lifetime="300")
    load.append(idle, "a@x")
    load.wait_until_applied(1)
    time.sleep(0.5)  # it lingers
    assert load.client.get(keys.wake(idle)) not in (None, keys.WAKE_QUEUED)
    began = time.monotonic()
    load.append(other, "a@x")
    load.wait_until_applied(2)
    assert time.monotonic() - began < 5


def test_a_tenant_waits_no_longer_than_a_turn_of_each_other(start: Start, load: loads.Load) -> None:
    tenants = load.make_tenants(5)
    for tenant in tenants[:-1]:
        load.append(tenant, *(f"{number}@x" for number in range(100 * BATCH)))
    load.append(tenants[-1], "a@x")
    start(drain_slice="0.1")
    loads.wait_until(lambda: any(one.tenant == tenants[-1] for one in load.applied()))
    turns = loads.slices(load.applied())
    assert turns.index(tenants[-1]) == 4
