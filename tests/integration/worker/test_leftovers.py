"""Nothing of RQ's grows for good: what killed workers leave is removed, and what is in use is not."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import rq
from rq.job import Job, JobStatus

from usher_core import errors, ids, settings
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import connections, jobs, keys, leftovers
from usher_core.testing import loads, stacks
from usher_core.testing import processes as watched
from usher_worker import limits, processes, workers

TENANT = ids.TenantId(ids.new_uuid())

# How long RQ keeps a worker that has registered, and said nothing since: its life and a minute.
NEWBORN = workers.LIFE + 60


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    opened = connections.connect(redis_url)
    yield opened
    opened.close()


@pytest.fixture
def queue(client: redis.Redis) -> rq.Queue:
    return jobs.queue(client)


class Worker(rq.SimpleWorker):
    """A worker that takes a job and goes no further than it is told."""


@pytest.fixture
def worker(queue: rq.Queue) -> Worker:
    made = Worker([queue], connection=queue.connection, serializer=queue.serializer)
    made.register_birth()
    return made


def take(queue: rq.Queue) -> Job:
    """Take a job out of the queue, as a worker does first."""
    jobs.enqueue(queue, TENANT)
    dequeued = rq.Queue.dequeue_any([queue], None, queue.connection, serializer=queue.serializer)
    assert dequeued is not None
    return dequeued[0]


def traces(client: redis.Redis) -> set[str]:
    """Name all of RQ's keys but those of what lives, or runs out by itself."""
    found = {key.decode() for key in client.scan_iter("rq:*") if client.ttl(key) < 0}
    return found - {"rq:queues", "rq:workers", f"rq:workers:{keys.QUEUE}"}


def test_a_job_that_its_worker_took_to_the_grave_is_removed(
    client: redis.Redis, queue: rq.Queue, worker: Worker
) -> None:
    job = take(queue)
    worker.prepare_execution(job)
    worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
    assert Job.exists(job.id, client)
    looking = leftovers.Leftovers(client)
    assert looking.remove() == 0  # it may still live
    [entry] = client.zrange(queue.started_job_registry.key, 0, -1)
    client.zadd(queue.started_job_registry.key, {entry: time.time() - 1})
    assert looking.remove() == 1
    assert traces(client) == set()


def test_a_job_that_was_taken_and_never_begun_is_removed(
    client: redis.Redis, queue: rq.Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(queue)
    looking = leftovers.Leftovers(client)
    assert looking.remove() == 0  # it was taken just now
    monkeypatch.setattr(leftovers, "STUCK", 0.0)
    assert looking.remove() == 1
    assert traces(client) == set()


def test_a_job_that_runs_is_left_alone(
    client: redis.Redis, queue: rq.Queue, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "STUCK", -1.0)
    job = take(queue)
    worker.prepare_execution(job)  # it stands in the list of what was taken for a moment longer
    assert leftovers.Leftovers(client).remove() == 0
    assert client.lrange(queue.intermediate_queue_key, 0, -1) == [job.id.encode()]
    worker.prepare_job_execution(job, remove_from_intermediate_queue=True)
    assert leftovers.Leftovers(client).remove() == 0
    assert Job.fetch(job.id, client).get_status() == JobStatus.STARTED
    assert job.id in queue.started_job_registry


def test_failed_jobs_that_have_run_out_are_removed(
    client: redis.Redis, queue: rq.Queue, worker: Worker
) -> None:
    job = take(queue)
    queue.failed_job_registry.add(job, ttl=jobs.FAILURE_LIFE)
    leftovers.Leftovers(client).remove()
    assert queue.failed_job_registry.get_job_ids(cleanup=False) == [job.id]
    client.zadd(queue.failed_job_registry.key, {job.id: time.time() - 1})
    leftovers.Leftovers(client).remove()
    assert client.zcard(queue.failed_job_registry.key) == 0


def test_the_names_of_dead_workers_are_removed(client: redis.Redis, queue: rq.Queue, worker: Worker) -> None:
    for name in ("rq:workers", f"rq:workers:{keys.QUEUE}"):
        client.sadd(name, "rq:worker:ghost")
    leftovers.Leftovers(client).remove()
    for name in ("rq:workers", f"rq:workers:{keys.QUEUE}"):
        assert client.smembers(name) == {worker.key.encode()}


def test_what_a_worker_says_of_itself_runs_out(database_urls: DatabaseUrls, redis_url: str) -> None:
    config = settings.Settings(database_url=database_urls.app, redis_url=redis_url)
    process = processes.Process(config)
    try:
        born = workers.Worker(process, limits.Limits(config))
        born.register_birth()
        assert NEWBORN - 5 < process.redis.ttl(born.key) <= NEWBORN
        born.heartbeat()
        assert workers.LIFE - 5 < process.redis.ttl(born.key) <= workers.LIFE
    finally:
        process.close()


def test_an_away_valkey_is_told_as_such() -> None:
    with connections.connect("redis://127.0.0.1:1/0") as away, pytest.raises(errors.QueueUnavailable):
        leftovers.Leftovers(away).remove()


def test_a_thousand_drains_and_killed_workers_leave_nothing(
    database_urls: DatabaseUrls, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    env = {"USHER_DRAIN_LINGER": "0", "USHER_WORKER_PROCESSES": "2"}
    stack = stacks.Stack(database_urls.app, redis_url, tmp_path, env)
    with loads.Load(database_urls.admin, redis_url) as load:
        queue = jobs.queue(load.client)
        tenants = load.make_tenants(20)
        for number in range(1000):
            jobs.enqueue(queue, tenants[number % len(tenants)])
        parent = stack.start_worker()
        try:
            killed = 0
            for left in (850, 650, 450, 250):
                loads.wait_until(lambda left=left: load.client.llen(keys.JOBS) < left)  # type: ignore[misc]
                os.kill(random.choice(watched.family(parent)[1:]), signal.SIGKILL)
                killed += 1
            loads.wait_until(lambda: load.client.llen(keys.JOBS) == 0)
            loads.wait_until(lambda: load.client.scard(f"rq:workers:{keys.QUEUE}") >= 2)
            time.sleep(1)
            begun = load.client.zcard(queue.started_job_registry.key)
            taken = load.client.llen(queue.intermediate_queue_key)
            assert len(list(load.client.scan_iter("rq:job:*"))) <= killed
            assert begun + taken <= 2 * killed
            # Minutes later.
            for entry in load.client.zrange(queue.started_job_registry.key, 0, -1):
                load.client.zadd(queue.started_job_registry.key, {entry: time.time() - 1})
            monkeypatch.setattr(leftovers, "STUCK", -1.0)
            leftovers.Leftovers(load.client).remove()
            assert traces(load.client) == set()
        finally:
            stack.stop()
        # What the killed ones said of themselves runs out by itself.
        left = {key.decode(): load.client.ttl(key) for key in load.client.scan_iter("rq:worker:*")}
        executions = {name for name in left if name.endswith(":executions")}
        assert all(left[name] <= jobs.TIMEOUT * 2 for name in executions)
        # One that was killed in the moment of its birth has RQ's longer life.
        assert all(left[name] <= NEWBORN for name in left.keys() - executions)
        assert -1 not in left.values()
