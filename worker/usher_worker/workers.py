"""The part of a worker process that drains: RQ's worker, in a loop of ours.

RQ's `work()` ends on a Redis time-out, on an out-of-memory answer and on any error outside its dequeue
loop. So each end that nobody asked for is followed by a new worker, after a pause that grows.
"""

from __future__ import annotations

import contextlib
import gc
import signal
import time
from types import FrameType
from typing import Any

import redis
import structlog
from rq import SimpleWorker, worker_registration
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer
from rq.utils import now

from usher_core import settings
from usher_core.queues import connections, jobs
from usher_worker import limits, metrics, ports, processes, sweeps

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

LIFE = 30
"""Seconds after which RQ shows a worker no longer that has said nothing; a minute more after its birth."""

PATIENCE = 1
"""Seconds for which a worker waits for a job before it looks whether to end, and says that it lives."""


class Worker(SimpleWorker):
    """RQ's worker without a fork, which never loses a job to a signal and shows itself again after a wipe.

    A signal only says that it should end. It ends where it has no job in hand.
    """

    max_connection_wait_time = 2.0

    def __init__(self, process: processes.Process, bounds: limits.Limits) -> None:
        self._process = process
        self._limits = bounds
        self._said = -float(PATIENCE)
        super().__init__(
            [jobs.queue(process.redis)],
            connection=process.redis,
            serializer=JSONSerializer,
            log_job_description=False,
            worker_ttl=LIFE,
        )
        process.beat = self._beat
        process.count = self._count

    @property
    def dequeue_timeout(self) -> int:
        """Wait so many seconds for a job at a time."""
        return PATIENCE

    @property
    def connection_timeout(self) -> int:
        """Leave the connections' own time-out: it is longer than any wait."""
        return int(connections.SOCKET_TIMEOUT)

    @property
    def should_run_maintenance_tasks(self) -> bool:
        """Whether to call `run_maintenance_tasks`: always."""
        return True

    def run_maintenance_tasks(self) -> None:
        """End if it should; RQ calls this whenever it has no job in hand. The sweep does RQ's maintenance."""
        if self._process.stopping.is_set() or self._limits.look():
            raise StopRequested

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the batch at hand; RQ calls this for SIGINT and SIGTERM."""
        self._process.stopping.set()
        self._stop_requested = True

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:
        """Say that it lives, and all there is to know of it: Valkey may have forgotten.

        RQ calls this five times a job; once a second is enough.
        """
        if time.monotonic() - self._said < PATIENCE:
            return
        self._said = time.monotonic()
        if pipeline is not None:
            self._introduce(pipeline)
            return
        try:
            with self.connection.pipeline(transaction=False) as pipe:
                self._introduce(pipe)
                pipe.execute()
        except redis.RedisError:
            if self._process.stopping.is_set():
                raise StopRequested from None  # RQ would try again until Valkey is back
            raise

    def _introduce(self, pipe: Any) -> None:
        self.last_heartbeat = now()
        pipe.hset(self.key, mapping={**self.serialize(), "state": self.get_state()})
        worker_registration.register(self, pipe)
        pipe.expire(self.key, LIFE)
        pipe.expire(self.executions_key, LIFE)

    def _count(self) -> bool:
        self._limits.done += 1
        return self._limits.look()

    def _beat(self) -> None:
        """Say from within a job that it lives; a drain learns by itself if Valkey is away."""
        with contextlib.suppress(redis.RedisError, StopRequested):
            self.heartbeat()


def run(config: settings.Settings) -> None:
    """Work in this process alone, with the sweep beside it, until SIGINT or SIGTERM."""
    process = processes.Process(config)
    sweep = sweeps.Sweep(config, process.stopping)
    sweep.start()
    metrics.PROCESSES.set(1)
    if config.worker_metrics_port:
        ports.serve(config.worker_metrics_port, sweep, lambda: 1)
    work(process)


def work(process: processes.Process) -> None:
    """Run the jobs of the queue until the process should stop, or a limit of its is reached.

    When it returns, the batch at hand is finished and the connections are closed.
    """
    processes.enter(process)
    bounds = limits.Limits(process.settings)
    # What was imported lives for good: the garbage collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    pause = FIRST_PAUSE
    while True:
        started = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: process.stopping.set())
        try:
            Worker(process, bounds).work(logging_level=None)
        except (redis.RedisError, OSError) as exc:
            log.warning("worker.lost_queue", error=type(exc).__name__)
        if process.stopping.is_set() or bounds.reached:
            break
        lived = time.monotonic() - started
        pause = FIRST_PAUSE if lived > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
        log.warning("worker.restarts", after=round(lived, 3), pause=pause)
        process.redis.connection_pool.disconnect()
        process.stopping.wait(pause)
    process.close()
    log.info("worker.stopped", jobs=bounds.done, limit=bounds.reached)
