"""Jobs carry a tenant; whoever is done with one may take the next out of RQ's hands."""

from __future__ import annotations

import uuid

import pytest
import redis
from rq.job import Job

from usher_core import errors, ids
from usher_core.queues import jobs, keys

ONE, TWO = ids.TenantId(uuid.UUID(int=1)), ids.TenantId(uuid.UUID(int=2))


def test_who_waits_longest_is_taken_first_and_nothing_is_left(client: redis.Redis) -> None:
    queue = jobs.queue(client)
    jobs.enqueue(queue, ONE)
    jobs.enqueue(queue, TWO)
    taken = [jobs.Waiting(ONE, jobs.RETRIES), jobs.Waiting(TWO, jobs.RETRIES)]
    assert [jobs.take(client), jobs.take(client), jobs.take(client)] == [*taken, None]
    assert queue.get_job_ids() == []
    assert client.keys(f"{Job.redis_job_namespace_prefix}*") == []


def test_what_is_no_drain_is_left_where_it_is(client: redis.Redis) -> None:
    queue = jobs.queue(client)
    other = queue.enqueue_call("time.sleep", args=(0,))
    jobs.enqueue(queue, ONE)
    assert jobs.take(client) is None
    assert queue.get_job_ids()[0] == other.id
    other.delete()
    assert jobs.take(client) == jobs.Waiting(ONE, jobs.RETRIES)


def test_a_drain_that_failed_is_tried_again_as_often_as_rq_would(client: redis.Redis) -> None:
    queue = jobs.queue(client)
    jobs.enqueue(queue, ONE)
    for left in range(jobs.RETRIES, -1, -1):
        taken = jobs.take(client)
        assert taken == jobs.Waiting(ONE, left)
        jobs.try_again(queue, taken)
    assert jobs.take(client) is None


def test_a_queue_that_is_away_says_so(client: redis.Redis) -> None:
    client.set(keys.JOBS, "no list")
    with pytest.raises(errors.QueueUnavailable):
        jobs.take(client)
