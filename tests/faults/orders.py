"""The one order in which things happened to a tenant, and which moments of it a request may have met.

Whoever writes for a tenant holds its lock, so its transactions have an order: batches of changes, and
acceptances of revocations between them. Each is a `Step`. The log and the events say when the lock was held;
that a step is seen by everybody is known from the moment of the next one, or of an answer that tells of it.
A request meets the state behind one of the steps that a `Span` names. Step 0 is the empty beginning.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

from evidences import Event, Row
from histories import Attempt, Operation

SLACK = 1_000
"""Clocks are read before and after what they are about: so many microseconds either way prove nothing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A row of the log with the request that it came from, and what was wanted by that row of it."""

    row: Row
    attempt: Attempt
    wanted: Operation


@dataclasses.dataclass(slots=True)
class Step:
    """One transaction under the lock: at `at` it was not visible yet, at `until` it was."""

    at: int
    entries: list[Entry] = dataclasses.field(default_factory=list)
    events: list[Event] = dataclasses.field(default_factory=list)
    until: int = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Span:
    """The steps behind one of which a request was answered, both included."""

    first: int
    last: int


def steps(entries: Iterable[Entry], events: Iterable[Event]) -> list[Step]:
    """Put the transactions of a tenant in order; the first one stands for the beginning."""
    found: dict[int, Step] = {}
    answered: dict[str, int] = {}
    for entry in entries:
        found.setdefault(entry.row.applied_at, Step(entry.row.applied_at)).entries.append(entry)
        ended = entry.attempt.ended_wall
        if entry.attempt.is_definite and ended is not None:
            answered[entry.row.change_id] = ended
    for event in events:
        found.setdefault(event.at, Step(event.at)).events.append(event)
    ordered = sorted(found.values(), key=lambda step: step.at)
    for step, after in itertools.zip_longest(ordered, ordered[1:]):
        told = [answered.get(event.change_id) for event in step.events if event.kind == "revoke"]
        told += [answered.get(entry.row.change_id) for entry in step.entries if entry.attempt.status != 202]
        known = [moment for moment in told if moment is not None and moment >= step.at]
        step.until = min([*known, after.at if after else step.at + 3_600_000_000])
    return [Step(0), *ordered]


class Moments:
    """Finds the steps that a request may have met."""

    def __init__(self, ordered: Sequence[Step]) -> None:
        self._begun = [step.at for step in ordered]
        self._visible = [step.until for step in ordered]

    def span(self, sent: int, ended: int) -> Span:
        """Name the steps that were possible between two moments of the wall clock."""
        first = bisect.bisect_right(self._visible, sent - SLACK) - 1
        last = bisect.bisect_right(self._begun, ended + SLACK) - 1
        return Span(max(first, 0), max(last, first, 0))


def places(entries: Sequence[Entry]) -> Mapping[int, tuple[int, int]]:
    """Tell of each attempt the first and the last place of what came of it in the order."""
    found: dict[int, tuple[int, int]] = {}
    for place, entry in enumerate(entries):
        first, _ = found.get(entry.attempt.number, (place, place))
        found[entry.attempt.number] = first, place
    return found
