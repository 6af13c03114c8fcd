"""A bulk, applied by the drain that found it at the head of its stream, some operations a transaction.

Each transaction moves the bulk on for good: after a crash, or when its drain has to end in between, another
drain looks up how far it has come and goes on there. An operation that fails for a fault of ours is singled
out as in a batch, becomes a dead letter of its own, and the others go on.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence

from usher_core.changes import bulks, progresses, records
from usher_core.store import batches
from usher_worker import holds, metrics

Steps = Sequence[bulks.Step]


def apply(
    hold: holds.Hold, entry: batches.Entry, deaths: int, in_small_steps: bool
) -> records.Outcome | None:
    """Apply a bulk to its end and return its outcome; `None` when the drain has to end before.

    `deaths`: how many workers died over what comes next in it. `in_small_steps`: one step a transaction.

    Raises:
        StoreUnavailable, DrainSuperseded: what was committed of it stays.
    """
    change = entry[1]
    try:
        bulk = bulks.unpack(change)
    except ValueError as exc:
        return hold.bury_broken(entry, exc)
    progress = hold.persist(lambda: hold.store.begin_bulk(hold.tenant, hold.epoch, change, bulk))
    return _Run(hold, entry[0], progress, in_small_steps).finish(deaths)


class _Run:
    """One drain's work on one bulk."""

    def __init__(
        self, hold: holds.Hold, position: str, progress: progresses.Progress, in_small_steps: bool
    ) -> None:
        self._hold = hold
        self._position = position
        self._progress = progress
        self._in_small_steps = in_small_steps
        self._suspect_until = 0
        """Up to this step each has a transaction of its own."""

    def finish(self, deaths: int) -> records.Outcome | None:
        """Apply what is left; `None` when the drain has to end before."""
        if deaths >= self._hold.settings.alone_attempts and not self._progress.has_ended:
            trace = "A worker died each time it applied this change."
            [step] = self._upcoming(1)
            self._bury(step, lambda entry: self._hold.bury(entry, "WorkerDied", trace, deaths))
        while not self._progress.is_closed:
            self._move_on()
            self._hold.renew()
            if self._hold.is_over and not self._progress.is_closed:
                return None
        return self._progress.reply()

    def _move_on(self) -> None:
        """Apply the next steps in one transaction; what fails of them for a fault of ours, step by step."""
        singly = self._in_small_steps or self._progress.done < self._suspect_until
        steps = self._upcoming(1 if singly else self._hold.settings.batch_size)
        started = time.perf_counter()
        try:
            after = self._hold.persist(
                lambda: self._apply(steps),
                attempts=holds.FAILURES_OF_A_BATCH if len(steps) > 1 else None,
                timeouts=holds.FAILURES_OF_A_BATCH if steps else None,
            )
        except holds.TriedEnough as exc:
            if len(steps) > 1:
                self._suspect_until = self._progress.done + len(steps)
            else:
                trace, attempts = str(exc.__cause__), holds.FAILURES_OF_A_BATCH
                self._bury(steps[0], lambda entry: self._hold.bury(entry, "TimedOut", trace, attempts))
        except (batches.ChangeBroken, batches.ConstraintHit) as exc:
            holds.note_failure("batch.failed", exc, changes=sum(map(len, steps)))
            if len(steps) > 1:
                self._suspect_until = self._progress.done + len(steps)
            else:
                self._alone(steps, exc)
        else:
            self._go_to(after, steps)
            metrics.BATCH_SECONDS.observe(time.perf_counter() - started)

    def _upcoming(self, most: int) -> Steps:
        return self._progress.upcoming(most, holds.BATCH_BYTES)

    def _apply(self, steps: Steps) -> progresses.Progress:
        hold = self._hold
        return hold.by_schemas(
            lambda registry: hold.store.apply_bulk(
                hold.tenant, hold.epoch, registry, self._position, self._progress, steps
            )
        )

    def _alone(self, steps: Steps, failure: Exception) -> None:
        """Try one step again, and give it up in the end."""
        try:
            self._go_to(self._hold.insist(lambda: self._apply(steps), failure), steps)
        except (batches.ChangeBroken, batches.ConstraintHit) as exc:
            if not steps:
                raise  # it is the bulk's own row that can't be written
            broken = exc
            self._bury(steps[0], lambda entry: self._hold.bury_broken(entry, broken))

    def _bury(self, step: bulks.Step, bury: Callable[[batches.Entry], records.Outcome]) -> None:
        """Make the changes of a step dead letters."""
        outcomes = [
            part.content
            if isinstance(part.content, records.Outcome)
            else bury((self._position, part.content))
            for part in step
        ]
        self._go_to(self._progress.after(step, outcomes), (step,))

    def _go_to(self, after: progresses.Progress, steps: Steps) -> None:
        """Go on from there: all before it is done for good."""
        self._progress = after
        self._hold.tail.begin_attempt()
        committed = records.now()
        metrics.BATCH.observe(len(bulks.changes_of(steps)))
        for part in itertools.chain.from_iterable(steps):
            outcome = after.outcomes.get(part.index)
            if isinstance(part.content, records.Change) and outcome is not None:
                metrics.count_applied(part.content, outcome, committed)
