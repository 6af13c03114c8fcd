"""What a drain holds while it works on a tenant: the end of its stream, its epoch, and a time to end.

`drains` makes one a run and lends it to whoever applies what is taken alone. Here stands how the store is
asked: while PostgreSQL is away again and again, with backoff and jitter; what broke alone so often as is
allowed, and then it becomes a dead letter.
"""

from __future__ import annotations

import random
import time
import traceback
from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog

from usher_core import errors, ids
from usher_core.changes import records
from usher_core.queues import streams
from usher_core.scim import schemas
from usher_core.store import batches
from usher_worker import metrics, processes

log = structlog.get_logger(__name__)

T = TypeVar("T")

RENEW_EVERY = 1.0

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0

# What one transaction may be about: it must stay far below the time after which it is ended.
BATCH_BYTES = 262_144

# So often may PostgreSQL give up on several changes before they are applied one by one.
FAILURES_OF_A_BATCH = 3


class TriedEnough(Exception):
    """PostgreSQL gave up on the same work several times."""


class Hold:
    """The tenant of one drain, for as long as the wake is its own."""

    def __init__(
        self,
        process: processes.Process,
        tenant: ids.TenantId,
        tail: streams.Tail | None = None,
        until: float | None = None,
    ) -> None:
        self.process = process
        self.settings = process.settings
        self.store = process.store
        self.tenant = tenant
        self.tail = tail or streams.Tail(process.redis, tenant)
        self.epoch = 0
        self._renewed = time.monotonic()
        self.deadline = self._renewed + self.settings.drain_lifetime if until is None else until

    @property
    def is_over(self) -> bool:
        """Whether the drain has to end: its process stops, or it has lived long enough."""
        return self.process.stopping.is_set() or time.monotonic() > self.deadline

    def by_schemas(self, work: Callable[[schemas.Registry], T]) -> T:
        """Do something with the store by the tenant's schemas; once more if they are others by now."""
        kept = self.process.registries
        try:
            return work(kept.kept(self.tenant))
        except batches.SchemasChanged:
            kept.keep(self.tenant, self.store.registry(self.tenant))
            return work(kept.kept(self.tenant))

    def persist(
        self, work: Callable[[], T], *, attempts: int | None = None, timeouts: int | None = None
    ) -> T:
        """Do something with the store; while PostgreSQL is away try again, with backoff and jitter.

        `timeouts`: so often it may take PostgreSQL too long, which has more to do with the work than others.

        Raises:
            StoreUnavailable: it stayed away until the drain has to end.
            TriedEnough: it gave up on this so many times.
        """
        timed_out = 0
        for number, pause in enumerate(_pauses(), start=1):
            try:
                return work()
            except errors.StoreUnavailable as exc:
                metrics.RETRIES.inc()
                log.warning("store.unavailable", error=str(exc), cause=type(exc.__cause__).__name__)
                if self.is_over:
                    raise
                timed_out += isinstance(exc, errors.StoreTimedOut)
                if number == attempts or timed_out == timeouts:
                    raise TriedEnough from exc
            self.process.stopping.wait(_jittered(pause))
            self.renew()
        raise AssertionError("pauses never end")

    def insist(self, work: Callable[[], T], failure: Exception) -> T:
        """Do again, alone, what failed already; until its attempts are used up.

        Raises:
            ChangeBroken, ConstraintHit: the last failure.
        """
        for attempt in range(2, self.settings.alone_attempts + 1):
            time.sleep(_jittered(FIRST_PAUSE * attempt))
            try:
                return self.persist(work)
            except (batches.ChangeBroken, batches.ConstraintHit) as exc:
                failure = exc
        raise failure

    def bury(self, entry: batches.Entry, reason: str, trace: str, attempts: int) -> records.Outcome:
        """Make a change a dead letter."""
        outcome = self.persist(
            lambda: self.store.bury(
                self.tenant, self.epoch, entry, reason=reason, traceback=trace, attempts=attempts
            )
        )
        metrics.DEAD_LETTERS.labels(reason).inc()
        log.error("change.dead", change=str(entry[1].change_id), reason=reason, attempts=attempts)
        return outcome

    def bury_broken(self, entry: batches.Entry, failure: Exception) -> records.Outcome:
        """Make a change a dead letter that failed alone, again and again."""
        cause = failure.__cause__ or failure
        trace = "".join(traceback.format_exception(cause))
        return self.bury(entry, type(cause).__name__, trace, self.settings.alone_attempts)

    def renew(self) -> None:
        """Keep the wake.

        Raises:
            DrainSuperseded: it is another's by now.
        """
        now = time.monotonic()
        if now - self._renewed < RENEW_EVERY:
            return
        self._renewed = now
        self.process.beat()
        if not self.tail.renew():
            raise errors.DrainSuperseded(f"tenant {self.tenant}: the wake is another's")


def note_failure(event: str, failure: Exception, **about: object) -> None:
    """Log that something failed for a fault of ours."""
    cause = failure.__cause__ or failure
    # The frames, not the text: an error may quote what the change holds.
    frames = "".join(traceback.format_tb(cause.__traceback__))
    log.error(event, reason=type(cause).__name__, frames=frames, **about)


def _pauses() -> Iterator[float]:
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, LONGEST_PAUSE)


def _jittered(pause: float) -> float:
    return pause * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing
