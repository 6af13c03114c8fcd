"""A worker of several processes: they drain side by side, end, are replaced, and lose no change."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
import rq
from prometheus_client import parser

from usher_core import errors, ids
from usher_core.embedded import processes
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import jobs, keys
from usher_core.store import migrations
from usher_core.testing import loads, servers, stacks
from usher_core.testing import processes as watched
from usher_worker import parents

LONG = "60"


class Worker:
    """A running `usher worker`."""

    def __init__(self, database_url: str, redis_url: str, folder: Path, settings: dict[str, str]) -> None:
        self.port = stacks.free_port()
        self.metrics_folder = folder / "metrics" / "worker"
        self._redis = redis.Redis.from_url(redis_url)
        env = os.environ | {
            "USHER_DATABASE_URL": database_url,
            "USHER_REDIS_URL": redis_url,
            "USHER_METRICS_DIR": str(folder / "metrics"),
            "USHER_WORKER_METRICS_PORT": str(self.port),
            "USHER_SWEEP_INTERVAL": "0.2",
            **{f"USHER_{name.upper()}": value for name, value in settings.items()},
        }
        self.log = folder / "worker.log"
        with self.log.open("ab") as output:
            command = (sys.executable, "-P", "-m", "usher_core.commands", "worker")
            self._process = processes.KeptProcess(command, env=env, output=output, grace=40)
        self.pid = self._process.pid
        expected = int(settings.get("worker_processes", "1"))
        loads.wait_until(lambda: len(self.shown()) == expected)

    @property
    def children(self) -> list[int]:
        """The processes that drain, as long as they live."""
        return [pid for pid in watched.family(self.pid)[1:] if watched.is_alive(pid)]

    @property
    def runs(self) -> bool:
        return watched.is_alive(self.pid)

    def shown(self) -> dict[str, rq.BaseWorker]:
        """What `rq info` shows: workers by their names."""
        found = rq.Worker.all(queue=jobs.queue(self._redis))
        return {worker.name: worker for worker in found if worker.death_date is None}

    def busy(self) -> list[int]:
        """The processes that run a job."""
        return [worker.pid for worker in self.shown().values() if worker.pid and worker.get_state() == "busy"]

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples that have the labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            families = list(parser.text_string_to_metric_families(answer.read().decode()))
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def health(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> int:
        """Wait for its end; answers the status."""
        return self._process.wait()

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.send(signal.SIGTERM)
        self._process.stop()
        self._redis.close()


Start = Callable[..., Worker]


@pytest.fixture
def start(database_urls: DatabaseUrls, redis_url: str, tmp_path: Path) -> Iterator[Start]:
    """Start a worker with the settings that are named."""
    started: list[Worker] = []

    def start(**settings: str) -> Worker:
        started.append(Worker(database_urls.app, redis_url, tmp_path, settings))
        return started[-1]

    yield start
    for worker in started:
        worker.stop()


@pytest.fixture
def load(database_urls: DatabaseUrls, redis_url: str) -> Iterator[loads.Load]:
    with loads.Load(database_urls.admin, redis_url) as opened:
        yield opened


def names(applied: list[loads.Applied]) -> list[str]:
    return sorted(one.name for one in applied)


def test_processes_drain_as_many_tenants_side_by_side(start: Start, load: loads.Load) -> None:
    worker = start(worker_processes="3", drain_linger=LONG)
    tenants = load.make_tenants(3)
    for tenant in tenants:
        load.append(tenant, "a@x")
    load.wait_until_applied(3)
    # Each lingers on its own tenant now.
    loads.wait_until(lambda: sorted(worker.busy()) == sorted(worker.children))
    assert len(worker.children) == 3
    assert worker.metric("usher_changes_applied_total") == 3
    assert worker.metric("usher_worker_processes") == 3
    assert (worker.health("/healthz"), worker.health("/readyz")) == (200, 200)


def test_a_killed_process_is_replaced_and_another_applies_its_change(start: Start, load: loads.Load) -> None:
    worker = start(worker_processes="2", drain_linger=LONG)
    before = worker.children
    [tenant] = load.make_tenants(1)
    load.append(tenant, "a@x")
    load.wait_until_applied(1)
    with load.held(tenant):
        load.append(tenant, "b@x")
        load.wait_until_held_up()
        [victim] = worker.busy()
        os.kill(victim, signal.SIGKILL)
        loads.wait_until(lambda: len(set(worker.children) - set(before)) == 1)
    assert names(load.wait_until_applied(2)) == ["a@x", "b@x"]
    assert set(before) - set(worker.children) == {victim}
    assert worker.metric("usher_worker_replacements_total", reason="died") == 1


def test_a_tenant_whose_worker_is_killed_after_its_job_was_taken_is_drained_all_the_same(
    start: Start, load: loads.Load
) -> None:
    first, second = load.make_tenants(2)
    load.append(first, "a@x")
    load.append(second, "b@x")
    with load.held(second):
        worker = start()
        load.wait_until_held_up()  # by the job of the first tenant
        assert names(load.applied()) == ["a@x"]
        assert load.client.llen(keys.JOBS) == 0
        worker.send(signal.SIGKILL)
        worker.wait()
    start()
    assert names(load.wait_until_applied(2)) == ["a@x", "b@x"]


def test_a_stop_finishes_the_batch_at_hand_and_takes_no_more(start: Start, load: loads.Load) -> None:
    worker = start(worker_processes="2", drain_linger=LONG)
    children = worker.children
    [tenant] = load.make_tenants(1)
    load.append(tenant, "a@x")
    load.wait_until_applied(1)
    with load.held(tenant):
        load.append(tenant, "b@x")
        load.wait_until_held_up()
        load.append(tenant, "c@x")
        worker.send(signal.SIGTERM)
        loads.wait_until(lambda: len(worker.children) == 1)  # the idle one goes at once
        time.sleep(0.5)
        assert worker.runs
    asked = time.monotonic()
    assert worker.wait() == 0
    assert time.monotonic() - asked < 5
    assert watched.wait_until_gone(children) == []
    assert names(load.applied()) == ["a@x", "b@x"]
    # What is left has a job already, for the next worker.
    assert load.client.xlen(keys.changes(tenant)) == 1
    assert load.client.llen(keys.JOBS) == 1
    start(worker_processes="2")
    assert names(load.wait_until_applied(3)) == ["a@x", "b@x", "c@x"]


def test_a_second_signal_does_not_cut_the_batch_off(start: Start, load: loads.Load) -> None:
    worker = start(drain_linger=LONG)
    [tenant] = load.make_tenants(1)
    load.append(tenant, "a@x")
    load.wait_until_applied(1)
    with load.held(tenant):
        load.append(tenant, "b@x")
        load.wait_until_held_up()
        worker.send(signal.SIGTERM)
        time.sleep(1.2)  # RQ would forgive a second one within a second
        worker.send(signal.SIGTERM)
        time.sleep(0.2)
    assert worker.wait() == 0
    assert names(load.applied()) == ["a@x", "b@x"]


def test_processes_whose_parent_is_killed_finish_the_batch_and_end(start: Start, load: loads.Load) -> None:
    worker = start(worker_processes="2", drain_linger=LONG)
    children = worker.children
    [tenant] = load.make_tenants(1)
    load.append(tenant, "a@x")
    load.wait_until_applied(1)
    with load.held(tenant):
        load.append(tenant, "b@x")
        load.wait_until_held_up()
        worker.send(signal.SIGKILL)
        loads.wait_until(lambda: sum(map(watched.is_alive, children)) == 1)
    assert watched.wait_until_gone(children) == []
    assert names(load.applied()) == ["a@x", "b@x"]


@pytest.mark.parametrize(
    ("limit", "tenants", "replaced"),
    [
        # Each process draws its limit between 4.8 and 6; the last ones may not have reached it.
        pytest.param({"worker_max_jobs": "6"}, 30, 3, id="jobs"),
        pytest.param({"worker_max_megabytes": "1"}, 5, 3, id="memory"),
    ],
)
def test_processes_are_replaced_at_a_limit_and_lose_nothing(
    start: Start, load: loads.Load, limit: dict[str, str], tenants: int, replaced: int
) -> None:
    worker = start(worker_processes="2", drain_linger="0", **limit)
    parent, before = worker.pid, set(worker.children)
    made = load.make_tenants(tenants)
    for tenant in made:
        load.append(tenant, "a@x", "b@x", "c@x")
    applied = load.wait_until_applied(3 * tenants, timeout=60)
    assert sorted(applied) == sorted(loads.Applied(one, f"{name}@x") for one in made for name in "abc")
    loads.wait_until(lambda: worker.metric("usher_worker_replacements_total", reason="limit") >= replaced)
    loads.wait_until(lambda: len(worker.shown()) == 2)
    assert worker.pid == parent
    assert not before & set(worker.children)
    assert worker.metric("usher_worker_replacements_total", reason="died") == 0
    # Whoever came and went, all is counted, and in as many files.
    assert worker.metric("usher_changes_applied_total") == 3 * tenants
    kinds = {"counter", "gauge_max", "histogram"}
    files = {f"{kind}_{number}.db" for kind in kinds for number in range(3)}
    assert {path.name for path in worker.metrics_folder.iterdir()} == files


def test_a_limit_replaces_a_single_process_too(start: Start, load: loads.Load) -> None:
    worker = start(worker_max_jobs="1", drain_linger="0")
    [before] = worker.children
    [tenant] = load.make_tenants(1)
    load.append(tenant, "a@x")
    load.wait_until_applied(1)
    loads.wait_until(lambda: worker.children not in ([], [before]))
    load.append(tenant, "b@x")
    load.wait_until_applied(2)


def test_workers_show_themselves_again_after_a_wipe(start: Start, load: loads.Load) -> None:
    worker = start(worker_processes="2", drain_linger=LONG)
    [tenant] = load.make_tenants(1)
    load.append(tenant, "a@x")
    load.wait_until_applied(1)
    before = worker.shown()
    load.client.flushdb()
    loads.wait_until(lambda: worker.shown().keys() == before.keys(), timeout=5)
    # The one that drains and the one that waits, with all that is known of them.
    loads.wait_until(lambda: len(worker.busy()) == 1, timeout=5)
    assert {one.pid for one in worker.shown().values()} == set(worker.children)
    assert all(one.queue_names() == [keys.QUEUE] for one in worker.shown().values())


def test_restarts_of_both_servers_restart_no_process(tmp_path: Path) -> None:
    with servers.start_servers(tmp_path / "servers") as own:
        migrations.upgrade(own.database.owner)
        settings = {"worker_processes": "2"}
        admin = own.database.admin.rpartition("/")[0] + "/" + own.database.app.rpartition("/")[2]
        with loads.Load(admin, own.redis_url) as load:
            worker = Worker(own.database.app, own.redis_url, tmp_path, settings)
            try:
                children = worker.children
                [tenant] = load.make_tenants(1)
                load.append(tenant, "a@x")
                load.wait_until_applied(1)
                own.postgres.stop()
                load.append(tenant, "b@x")
                time.sleep(1)
                own.postgres.start()
                load.wait_until_applied(2)
                own.valkey.kill()
                time.sleep(1)
                own.valkey.start()
                loads.wait_until(lambda: _appended(load, tenant, "c@x"))
                assert set(names(load.wait_until_applied(3))) == {"a@x", "b@x", "c@x"}
                loads.wait_until(lambda: {one.pid for one in worker.shown().values()} == set(children))
                assert worker.children == children
            finally:
                worker.stop()


def _appended(load: loads.Load, tenant: ids.TenantId, name: str) -> bool:
    try:
        load.append(tenant, name)
    except errors.QueueUnavailable:
        return False
    return True


def test_a_process_that_dies_again_and_again_is_started_after_growing_pauses(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    monkeypatch.setattr(parents, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(parents, "LONGEST_PAUSE", 0.15)
    child = parents.Child(1)
    pauses = []
    for _ in range(4):
        loads.wait_until(lambda: child.tend() or child.runs)
        loads.wait_until(lambda: child.tend() or not child.runs)
        pauses.append(child.wait)
    assert pauses == pytest.approx([0.05, 0.1, 0.15, 0.15], abs=0.04)
