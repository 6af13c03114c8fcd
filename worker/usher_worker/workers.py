"""The worker process: RQ's worker in a loop of ours, the sweep beside it, and a port for the curious.

RQ's `work()` ends on a Redis time-out, on an out-of-memory answer and on any error outside its dequeue
loop, and a worker that Redis forgot does not register itself again. So each end that nobody asked for is
followed by a new worker, after a pause that grows.
"""

from __future__ import annotations

import gc
import json
import signal
import threading
import time
from collections.abc import Iterable
from types import FrameType
from typing import Any
from wsgiref import simple_server

import prometheus_client
import redis
import structlog
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from usher_core import settings
from usher_core.queues import jobs
from usher_worker import processes, sweeps

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

# A sweep that has not ticked for so long says that the process hangs.
SILENCE = 60.0


class Worker(SimpleWorker):
    """RQ's worker without a fork, which tells the drain it runs that it should stop."""

    def __init__(self, process: processes.Process) -> None:
        self._process = process
        super().__init__(
            [jobs.queue(process.redis)],
            connection=process.redis,
            serializer=JSONSerializer,
            log_job_description=False,
        )

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the batch at hand; RQ calls this for SIGINT and SIGTERM."""
        self._process.stopping.set()
        super().request_stop(signum, frame)  # type: ignore[no-untyped-call]


def run(config: settings.Settings) -> None:
    """Work until SIGINT or SIGTERM; return when the batch at hand is finished."""
    process = processes.Process(config)
    processes.enter(process)
    sweep = sweeps.Sweep(config, process.stopping)
    sweep.start()
    if config.worker_metrics_port:
        _serve_metrics(config.worker_metrics_port, sweep)
    # What was imported lives for good: the garbage collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    pause = FIRST_PAUSE
    while not process.stopping.is_set():
        started = time.monotonic()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: process.stopping.set())
        try:
            Worker(process).work(logging_level=None)
        except (redis.RedisError, OSError) as exc:
            log.warning("worker.lost_queue", error=type(exc).__name__)
        if process.stopping.is_set():
            break
        lived = time.monotonic() - started
        pause = FIRST_PAUSE if lived > LONGEST_PAUSE else min(pause * 2, LONGEST_PAUSE)
        log.warning("worker.restarts", after=round(lived, 3), pause=pause)
        process.redis.connection_pool.disconnect()
        process.stopping.wait(pause)
    process.close()
    log.info("worker.stopped")


def _serve_metrics(port: int, sweep: sweeps.Sweep) -> None:
    metrics_app = prometheus_client.make_wsgi_app()

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            return metrics_app(environ, start_response)  # type: ignore[no-any-return]
        silent = time.monotonic() - sweep.ticked
        healthy = environ["PATH_INFO"] in ("/healthz", "/readyz") and silent < SILENCE
        start_response(
            "200 OK" if healthy else "503 Service Unavailable", [("Content-Type", "application/json")]
        )
        return [json.dumps({"sweep_seconds_ago": round(silent, 1)}).encode()]

    class Quiet(simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep access lines out of the log."""

    server = simple_server.make_server("0.0.0.0", port, app, handler_class=Quiet)  # noqa: S104 - a pod's port
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
