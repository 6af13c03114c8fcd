"""The sweep: looks after what nobody looks after, every two seconds, one process at a time.

A thread of each worker process; a try-lock in PostgreSQL lets one of them through. It wakes streams whose
drain died or whose wake was lost, frees what a stopped worker holds, keeps the change log's partitions,
purges deleted users that no longer can be restored, and measures what waits.
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
PURGE_EVERY = 30.0


class Sweep(threading.Thread):
    """The thread; `ticked` is the moment (monotonic) of its last round, by whichever result."""

    def __init__(self, config: settings.Settings, stopping: threading.Event) -> None:
        super().__init__(name="sweep", daemon=True)
        self._settings = config
        self._stopping = stopping
        self._store = store_sweeps.Sweeps(config.database_url)
        self._backlogs = backlogs.Backlogs(connections.connect(config.redis_url))
        self._partitions_kept = -PARTITIONS_EVERY
        self._purged = -PURGE_EVERY
        self.ticked = time.monotonic()

    def run(self) -> None:
        """Sweep until the process stops; whatever goes wrong is tried again at the next round."""
        while not self._stopping.wait(self._settings.sweep_interval):
            try:
                ours = self.keep_store()
                self.look_after_streams(wake=ours)
                metrics.SWEEPS.labels("swept" if ours else "another's turn").inc()
            except (errors.StoreUnavailable, errors.QueueUnavailable) as exc:
                metrics.SWEEPS.labels("unavailable").inc()
                log.warning("sweep.unavailable", error=str(exc))
            except Exception:
                # A thread that ended here would be missed only when a drain dies.
                metrics.SWEEPS.labels("failed").inc()
                log.exception("sweep.failed")
            self.ticked = time.monotonic()
        self._store.close()

    def keep_store(self) -> bool:
        """Do what PostgreSQL needs, in one short transaction; tells whether it was our turn."""
        now = time.monotonic()
        made = dropped = purged = freed = 0
        keep_partitions = now - self._partitions_kept >= PARTITIONS_EVERY
        purge = now - self._purged >= PURGE_EVERY
        with self._store.turn() as ours:
            if not ours:
                return False
            freed = self._store.free_stopped()
            if keep_partitions:
                made, dropped = self._store.keep_change_log(
                    records.now(), months=self._settings.change_log_months
                )
            if purge:
                purged = self._store.purge_deleted()
        # Only now is it committed.
        if keep_partitions:
            self._partitions_kept = now
        if purge and purged < store_sweeps.PURGE_AT_ONCE:
            self._purged = now  # what is left over waits for the next round, not for the next time
        metrics.FREED.inc(freed)
        if made or dropped or purged or freed:
            log.info(
                "sweep.kept", partitions_made=made, partitions_dropped=dropped, purged=purged, freed=freed
            )
        return True

    def look_after_streams(self, *, wake: bool) -> None:
        """Measure what waits; when it is our turn also wake whom nobody wakes."""
        waiting = self._backlogs.read()
        for backlog in waiting:
            if wake and not backlog.awake and self._backlogs.wake(backlog):
                metrics.WOKEN.inc()
                log.warning("sweep.woke", tenant=str(backlog.tenant), pending=backlog.pending)
        metrics.PENDING.set(sum(backlog.pending for backlog in waiting))
        metrics.OLDEST.set(max((backlog.oldest for backlog in waiting), default=0.0))
