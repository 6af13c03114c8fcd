"""What RQ leaves of workers that died: entries of its registries, jobs that nobody runs, names of the dead.

RQ would look every ten minutes, between two jobs of some worker, and put lost jobs back into the queue. Here
a job is nothing but a wake, and the sweep wakes whom nobody drains: so what is lost is removed, soon.
"""

from __future__ import annotations

import time

import redis
import rq
from rq import worker_registration
from rq.job import Job

from usher_core.queues import connections, jobs

STUCK = 60.0
"""A worker that lives has a job no longer than a moment between taking and beginning it."""


class Leftovers:
    """Finds and removes them; it remembers since when a job looks stuck, so a sweep keeps one."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._queue: rq.Queue | None = None
        self._taken: dict[str, float] = {}

    def remove(self) -> int:
        """Remove what is left over; tells of how many jobs.

        Raises:
            QueueUnavailable: Valkey is away.
        """
        with connections.wrapped():
            queue = self._queue = self._queue or jobs.queue(self._client)
            begun, now = queue.started_job_registry, int(self._client.time()[0])
            # Scored by the moment at which the job would have been ended at the latest.
            expired = self._client.zrangebyscore(begun.key, 0, now)
            dead = [entry.decode() for entry in expired if isinstance(entry, bytes)]
            lost = {begun.parse_job_id(entry) for entry in dead}
            lost |= self._stuck(queue, set(begun.get_job_ids(cleanup=False)))
            pipe = self._client.pipeline(transaction=True)
            for job in lost:
                pipe.lrem(queue.intermediate_queue_key, 0, job)
                pipe.delete(Job.key_for(job))
            for entry in dead:
                pipe.zrem(begun.key, entry)
            for registry in (queue.failed_job_registry, queue.finished_job_registry):
                # The jobs themselves have run out.
                pipe.zremrangebyscore(registry.key, 0, now)
            pipe.execute()
            worker_registration.clean_worker_registry(queue)
        return len(lost)

    def _stuck(self, queue: rq.Queue, begun: set[str]) -> set[str]:
        """List the jobs that were taken long ago and never begun."""
        now = time.monotonic()
        taken = set(queue.intermediate_queue.get_job_ids()) - begun
        self._taken = {job: self._taken.get(job, now) for job in taken}
        return {job for job, since in self._taken.items() if now - since > STUCK}
