"""The sweep: looks after what nobody looks after, every two seconds, one process at a time.

A thread of each worker process; a try-lock in PostgreSQL lets one of them through. It wakes streams whose
drain died or whose wake was lost, frees what a stopped worker holds, keeps the change log's partitions,
and measures what waits.
"""

from __future__ import annotations

import threading
import time

import structlog

from usher_core import errors, settings
from usher_core.changes import records
from usher_core.queues import backlogs, connections
from usher_core.store import sweeps as store_sweeps
from usher_worker import metrics

log = structlog.get_logger(__name__)

PARTITIONS_EVERY = 3600.0


class Sweep(threading.Thread):
    """The thread; `ticked` is the moment (monotonic) of its last round, by whichever result."""

    def __init__(self, config: settings.Settings, stopping: threading.Event) -> None:
        super().__init__(name="sweep", daemon=True)
        self._settings = config
        self._stopping = stopping
        self._store = store_sweeps.Sweeps(config.database_url)
        self._backlogs = backlogs.Backlogs(connections.connect(config.redis_url))
        self._partitions_kept = -PARTITIONS_EVERY
        self.ticked = time.monotonic()

    def run(self) -> None:
        """Sweep until the process stops; what is away is tried again at the next round."""
        while not self._stopping.wait(self._settings.sweep_interval):
            try:
                with self._store.turn() as ours:
                    if ours:
                        self.round()
                metrics.SWEEPS.labels("swept" if ours else "another's turn").inc()
            except (errors.StoreUnavailable, errors.QueueUnavailable) as exc:
                metrics.SWEEPS.labels("unavailable").inc()
                log.warning("sweep.unavailable", error=str(exc))
            self.ticked = time.monotonic()
        self._store.close()

    def round(self) -> None:
        """Do one round, as the one sweeper."""
        now = time.monotonic()
        if now - self._partitions_kept >= PARTITIONS_EVERY:
            made, dropped = self._store.keep_change_log(
                records.now(), months=self._settings.change_log_months
            )
            self._partitions_kept = now
            if made or dropped:
                log.info("sweep.partitions", made=made, dropped=dropped)
        if freed := self._store.free_stopped():
            metrics.FREED.inc(freed)
            log.warning("sweep.freed", transactions=freed)
        waiting = self._backlogs.read()
        for backlog in waiting:
            if not backlog.awake and self._backlogs.wake(backlog):
                metrics.WOKEN.inc()
                log.warning("sweep.woke", tenant=str(backlog.tenant), pending=backlog.pending)
        metrics.PENDING.set(sum(backlog.pending for backlog in waiting))
        metrics.OLDEST.set(max((backlog.oldest for backlog in waiting), default=0.0))
