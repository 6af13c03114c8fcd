"""The RQ jobs that wake a drain. A job carries the tenant and nothing else: the changes are in the stream."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Sequence

import redis
import rq
from rq.job import Job
from rq.serializers import JSONSerializer

from usher_core import ids
from usher_core.queues import connections, keys

DRAIN = "usher_worker.drains.drain"
"""By path, so that who enqueues needs not import the worker; a test resolves it."""

# Far above a drain's life, which is a job's: it ends a job that hangs, not one that works.
TIMEOUT = 120

FAILURE_LIFE = 60
RETRIES = 3

_DESCRIPTION = "drain "

# In one step: a job that left the list and stayed in memory would stay for good. What is no drain is RQ's.
TAKE = """
local job = redis.call('LINDEX', KEYS[1], 0)
if not job then return nil end
local held = redis.call('HMGET', ARGV[1] .. job, 'description', 'retries_left')
local told = held[1] or ''
if told:sub(1, #ARGV[2]) ~= ARGV[2] then return nil end
redis.call('LPOP', KEYS[1])
redis.call('DEL', ARGV[1] .. job)
return {told:sub(#ARGV[2] + 1), tonumber(held[2] or 0)}
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Waiting:
    """A tenant that was taken from RQ's list, and how often its drain may still be tried again."""

    tenant: ids.TenantId
    retries: int


def queue(client: redis.Redis) -> rq.Queue:
    """Open the queue; its jobs are JSON, not pickles."""
    return rq.Queue(keys.QUEUE, connection=client, serializer=JSONSerializer)


def enqueue(jobs: rq.Queue, tenant: ids.TenantId, retries: int = RETRIES) -> None:
    """Enqueue a drain of the tenant, and ring for drains that only linger.

    `retries`: how often a drain that fails is tried again before it is left to the sweep.
    The job's id is random: a fixed one would be refused for as long as a killed worker's job lives on.
    Retries carry no interval, which would need a scheduler process: a drain backs off in place.

    Raises:
        QueueUnavailable: Valkey is away or full; the sweep will wake the tenant.
    """
    with connections.wrapped():
        jobs.enqueue_call(
            DRAIN,
            args=(str(tenant),),
            timeout=TIMEOUT,
            result_ttl=0,
            failure_ttl=FAILURE_LIFE,
            retry=rq.Retry(max=retries) if retries else None,
            description=f"{_DESCRIPTION}{tenant}",
        )
        jobs.connection.xadd(keys.BELL, {"t": str(tenant)}, maxlen=8, approximate=False)


def take(client: redis.Redis) -> Waiting | None:
    """Take the job that waits longest, which RQ forgets, if one waits.

    Whoever takes it drains the tenant, and tries again where that fails. If it dies, the sweep finds that the
    job is lost.

    Raises:
        QueueUnavailable: Valkey is away.
    """
    with connections.wrapped():
        taken = client.eval(TAKE, 1, keys.JOBS, Job.key_for(""), _DESCRIPTION)
    if not isinstance(taken, list):
        return None
    return Waiting(ids.TenantId(uuid.UUID(taken[0].decode())), taken[1])


def try_again(jobs: rq.Queue, failed: Waiting) -> None:
    """Enqueue a drain that failed, as RQ does with its own jobs: so often, and then it is left to the sweep.

    Raises:
        QueueUnavailable: Valkey is away or full; the sweep will wake the tenant.
    """
    if failed.retries:
        enqueue(jobs, failed.tenant, failed.retries - 1)


def tenants(client: redis.Redis, waiting: Sequence[bytes]) -> list[str]:
    """List the tenants of the jobs with these ids; a job that is gone has none."""
    pipe = client.pipeline(transaction=False)
    for job in waiting:
        pipe.hget(Job.key_for(job.decode()), "description")
    return [told.decode().removeprefix(_DESCRIPTION) for told in pipe.execute() if told]
