"""While Valkey is full the sweep drains by itself: no change stops it, no number of tenants silences it."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from usher_core import ids, settings
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import keys, streams
from usher_core.scim import documents, schemas
from usher_core.testing import servers
from usher_worker import drains, holds, processes, sweeps

USER = schemas.default().by_name("User")
TENANTS = [ids.TenantId(uuid.UUID(int=number)) for number in (1, 2, 3, 4)]
TENANT = TENANTS[0]


@pytest.fixture
def process(database_urls: DatabaseUrls, tmp_path: Path) -> Iterator[processes.Process]:
    """A process on a Valkey of its own; some tenants."""
    with psycopg.connect(database_urls.owner) as owner:
        for tenant in TENANTS:
            owner.execute(
                "INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', %s)", (tenant, str(tenant))
            )
            owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (tenant,))
    with servers.ValkeyServer(tmp_path / "valkey") as valkey:
        config = settings.Settings(database_url=database_urls.app, redis_url=valkey.url, alone_attempts=2)
        opened = processes.Process(config)
        yield opened
        opened.close()


def queue(process: processes.Process, tenant: ids.TenantId, *names: str) -> None:
    for name in names:
        body = documents.normalise(USER, {"userName": name})
        change_id, user = ids.ChangeId(ids.new_uuid()), ids.ResourceId(ids.new_uuid())
        change = records.Change(change_id, records.now(), "create", "User", user, body, None, "t", "r", "")
        process.redis.xadd(keys.changes(tenant), {"c": change.encode()})
        process.redis.sadd(keys.PENDING, str(tenant))


def fill(process: processes.Process) -> None:
    process.redis.config_set("maxmemory", 1_000_000)  # less than an empty server uses


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the drain's own runs after it."""


def test_a_change_that_kills_whoever_drains_is_found_and_buried(
    process: processes.Process, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = process.store.apply

    def deadly(tenant: Any, epoch: Any, registry: Any, entries: Any) -> Any:
        if any(change.body["userName"] == "killer@x" for _, change in entries):
            raise Killed
        return apply(tenant, epoch, registry, entries)

    monkeypatch.setattr(process.store, "apply", deadly)
    queue(process, TENANT, "a@x", "killer@x", "c@x")
    fill(process)
    deaths = 0
    for _ in range(20):
        try:
            drains.Drain(process, TENANT, streams.BareTail(process.redis, TENANT)).run()
            break
        except Killed:
            deaths += 1
    assert deaths == drains.DEATHS_OF_A_BATCH + process.settings.alone_attempts
    assert process.redis.xlen(keys.changes(TENANT)) == 0
    assert not process.redis.hexists(keys.attempts(TENANT), "deaths"), "whoever comes next suspects nobody"
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute("SELECT reason FROM dead_letters").fetchall() == [("WorkerDied",)]
        counted = "SELECT count(*) FROM resources WHERE document ->> 'userName' IN ('a@x', 'c@x')"
        assert owner.execute(counted).fetchall() == [(2,)]


def test_what_fills_several_batches_is_drained_in_one_go(
    process: processes.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holds, "BATCH_BYTES", 1)  # each change is a batch
    queue(process, TENANT, "a@x", "b@x", "c@x")
    fill(process)
    drains.Drain(process, TENANT, streams.BareTail(process.redis, TENANT)).run()
    assert process.redis.xlen(keys.changes(TENANT)) == 0


def test_the_sweep_tells_that_it_goes_on_after_each_tenant(
    process: processes.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    for tenant in TENANTS:
        queue(process, tenant, "a@x")
    fill(process)
    sweep, silences = sweeps.Sweep(process.settings, threading.Event()), []
    run = drains.Drain.run

    def slow(drain: drains.Drain) -> str:
        time.sleep(0.3)
        ended = run(drain)
        silences.append(time.monotonic() - sweep.ticked)
        return ended

    monkeypatch.setattr(drains.Drain, "run", slow)
    try:
        sweep.look_after_streams(wake=True)
    finally:
        sweep.close()
    assert len(silences) == len(TENANTS)
    assert max(silences) < 2 * min(silences), "a later tenant is not a longer silence"
