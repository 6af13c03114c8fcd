"""The sweep: looks after what nobody looks after, every two seconds, one process at a time.

A thread of each worker process; a try-lock in PostgreSQL lets one of them through. It wakes streams whose
drain died or whose wake was lost, frees what a stopped worker holds, keeps the change log's partitions,
purges deleted users that no longer can be restored, puts promised changes back into the streams that lost
them, drains by itself while Valkey has no memory left to take a job, and measures what waits.
"""

from __future__ import annotations

import threading
import time

import structlog

from usher_core import errors, settings
from usher_core.changes import records
from usher_core.queues import backlogs, connections, leftovers, streams
from usher_core.store import sweeps as store_sweeps
from usher_worker import drains, metrics, processes, promises

log = structlog.get_logger(__name__)

PARTITIONS_EVERY = 3600.0
PURGE_EVERY = 30.0
CLEAR_UP_EVERY = 30.0


class Sweep(threading.Thread):
    """The thread; `ticked` is the moment (monotonic) of its last step, by whichever result."""

    def __init__(self, config: settings.Settings, stopping: threading.Event) -> None:
        super().__init__(name="sweep", daemon=True)
        self._settings = config
        self._stopping = stopping
        self._store = store_sweeps.Sweeps(config.database_url)
        self._backlogs = backlogs.Backlogs(connections.connect(config.redis_url))
        self._promises = promises.Promises(self._store, self._backlogs, self.tick)
        # Connections of its own: the process's are the drain's that runs beside this thread.
        self._process = processes.Process(config, stopping)
        self._leftovers = leftovers.Leftovers(self._process.redis)
        self._partitions_kept = -PARTITIONS_EVERY
        self._purged = -PURGE_EVERY
        self._cleared_up = -CLEAR_UP_EVERY
        self.tick()

    def tick(self) -> None:
        """Note that the sweep goes on: a round may take long, no step of it does."""
        self.ticked = time.monotonic()

    def run(self) -> None:
        """Sweep until the process stops; whatever goes wrong is tried again at the next round."""
        while not self._stopping.wait(self._settings.sweep_interval):
            try:
                ours = self.keep_store()
                self.look_after_streams(wake=ours)
                if ours:
                    self.keep_promises()
                    self.clear_up()
                metrics.SWEEPS.labels("swept" if ours else "another's turn").inc()
            except (errors.StoreUnavailable, errors.QueueUnavailable) as exc:
                metrics.SWEEPS.labels("unavailable").inc()
                log.warning("sweep.unavailable", error=str(exc))
            except Exception:
                # A thread that ended here would be missed only when a drain dies.
                metrics.SWEEPS.labels("failed").inc()
                log.exception("sweep.failed")
            self.tick()
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._store.close()
        self._process.close()

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
        waiting = self.waiting()
        for backlog in waiting:
            if wake and not backlog.awake:
                self._wake(backlog)
                self.tick()
        metrics.PENDING.set(sum(backlog.pending for backlog in waiting))
        metrics.OLDEST.set(max((backlog.oldest for backlog in waiting), default=0.0))

    def waiting(self) -> list[backlogs.Backlog]:
        """List the tenants with pending changes."""
        return self._backlogs.read()

    def keep_promises(self) -> None:
        """Put promised changes back that their streams lack."""
        with self._store.turn() as ours:
            if ours:
                self._promises.look()

    def clear_up(self) -> None:
        """Remove what RQ keeps of workers that died, now and then."""
        now = time.monotonic()
        if now - self._cleared_up >= CLEAR_UP_EVERY:
            metrics.LEFT_OVER.inc(self._leftovers.remove())
            self._cleared_up = now

    def _wake(self, backlog: backlogs.Backlog) -> None:
        try:
            if not self._backlogs.wake(backlog):
                return
        except errors.QueueFull:
            # Reading, committing and removing need no memory; what is removed makes room for the rest.
            metrics.DIRECT.inc()
            log.warning("sweep.drains", tenant=str(backlog.tenant), pending=backlog.pending)
            tail = streams.BareTail(self._process.redis, backlog.tenant)
            drains.Drain(self._process, backlog.tenant, tail).run()
            return
        metrics.WOKEN.inc()
        log.warning("sweep.woke", tenant=str(backlog.tenant), pending=backlog.pending)
