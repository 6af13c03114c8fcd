"""Putting promised changes back into the streams; the sweep calls it when it is its turn.

After a loss of Valkey all of them go back, in the order of their acceptance, before the api may append again:
a younger change never overtakes one that was answered for. In between, an api process may have died after it
accepted a change and before it appended it: such a one goes back alone, a while later, behind what was
appended meanwhile. Nobody was told that it was accepted.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Callable

import structlog

from usher_core.changes import records
from usher_core.queues import backlogs
from usher_core.store import sweeps as store_sweeps
from usher_worker import metrics

log = structlog.get_logger(__name__)

APPENDED_BY_NOW = datetime.timedelta(seconds=10)
"""An api process that lives appends what it accepted long before."""

EVER = datetime.datetime.max.replace(tzinfo=datetime.UTC)


class Promises:
    """Compares the inbox with the streams, a page at a time."""

    def __init__(
        self, store: store_sweeps.Sweeps, streams: backlogs.Backlogs, tick: Callable[[], None]
    ) -> None:
        """`tick`: called after each page, for there may be many."""
        self._store = store
        self._streams = streams
        self._tick = tick
        self._position = store_sweeps.START

    def look(self) -> None:
        """Put back what is missing; call it within a turn of the sweep.

        Raises:
            StoreUnavailable, QueueUnavailable: a backend is away or full; the next round goes on.
        """
        run_id, ours = self._streams.generation()
        if ours:
            self._position = self._put_back(records.now() - APPENDED_BY_NOW, self._position)
            return
        position = self._put_back(EVER, store_sweeps.START)
        while position != store_sweeps.START:
            position = self._put_back(EVER, position)
        self._streams.begin(run_id)
        log.warning("promises.restored")

    def _put_back(self, before: datetime.datetime, position: store_sweeps.Position) -> store_sweeps.Position:
        """Look at one page; return where the next one begins, which is the start after the last."""
        page = self._store.promised(before, position)
        for tenant, group in itertools.groupby(page, key=lambda promised: promised.tenant):
            promised = {one.change_id: one for one in group}
            for change in self._streams.missing(tenant, list(promised)):
                entry = self._store.entry(promised[change])
                if entry is not None and self._streams.put_back(tenant, change, entry):
                    metrics.PUT_BACK.inc()
                    log.warning("promise.put_back", tenant=str(tenant), change=str(change))
        self._tick()
        return page[-1].position if len(page) == store_sweeps.PROMISED_AT_ONCE else store_sweeps.START
