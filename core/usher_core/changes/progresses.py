"""How far a bulk has come, and the rest of the way; the worker applies bulks by this, the api reads the end.

What becomes of each operation depends on the bulk and on the outcomes logged so far, and on nothing else:
whoever goes on after a crash counts the same errors and comes to the same end.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable, Mapping
from typing import Final

import orjson

from usher_core import ids
from usher_core.changes import bulks, records, units

NOT_BEGUN: Final = 424
"""RFC 4918 §11.4: what it depended on failed. The log and the events tell it, the answer leaves it out."""

ENOUGH_ERRORS: Final = "The operation was not begun: as many others as failOnErrors allows had failed."


@dataclasses.dataclass(slots=True)
class Progress:
    """How far a bulk has come. Applying more of it gives another one, so that a failure leaves this as it is.

    `outcomes` holds those of the operations so far, by their places, each with the id of its resource. `done`
    counts steps. `is_closed`: the bulk's own row is in the change log, so that nothing else will come.
    """

    change: records.Change
    bulk: bulks.Bulk
    is_closed: bool
    outcomes: dict[int, records.Outcome] = dataclasses.field(default_factory=dict)
    done: int = 0
    errors: int = 0
    names: dict[ids.ResourceId, ids.ResourceId] = dataclasses.field(default_factory=dict)
    """The ids of users who were revived, by those that were meant for them."""

    @property
    def has_ended(self) -> bool:
        """Whether no operation is to be applied any more: none is left, or too many have failed."""
        limit = self.bulk.fail_on_errors  # RFC 7644 §3.7
        return self.done == len(self.bulk.steps) or (limit is not None and self.errors >= limit)

    def upcoming(self, most: int, most_bytes: int) -> tuple[bulks.Step, ...]:
        """List the next steps, with at most so many operations and bytes; the first one is always in it."""
        found: list[bulks.Step] = []
        count = size = 0
        for step in () if self.has_ended else self.bulk.steps[self.done :]:
            count += len(step)
            size += sum(len(orjson.dumps(change.body)) for change in bulks.changes_of([step]))
            if found and (count > most or size > most_bytes):
                break
            found.append(self.renamed(step))
        return tuple(found)

    def advance(self, unit: units.Unit, steps: Iterable[bulks.Step]) -> Progress:
        """Apply the next steps to a unit of work, up to the last error that is accepted."""
        after = self._copy()
        for step in steps:
            if not after.has_ended:
                named = after.renamed(step)
                after.note(named, _applied(after, unit, named))
        if after.has_ended:
            after.close(unit)
        return after

    def after(self, step: bulks.Step, outcomes: Iterable[records.Outcome]) -> Progress:
        """Tell how far it has come with the next step, whose outcomes were decided elsewhere."""
        after = self._copy()
        after.note(step, outcomes)
        return after

    def note(self, step: bulks.Step, outcomes: Iterable[records.Outcome]) -> None:
        """Take down what became of the next step."""
        for part, outcome in zip(step, outcomes, strict=True):
            self.errors += not outcome.succeeded
            if isinstance(part.content, records.Change):
                meant, found = part.content.resource_id, outcome.resource_id
                if found is None:
                    outcome = dataclasses.replace(outcome, resource_id=meant)
                elif found != meant:
                    self.names[meant] = found
            self.outcomes[part.index] = outcome
        self.done += 1

    def reply(self) -> records.Outcome:
        """Make the outcome of the bulk itself, which holds those of its operations."""
        told = [
            [
                index,
                outcome.status,
                outcome.scim_type,
                outcome.detail,
                outcome.version,
                None if outcome.resource_id is None else str(outcome.resource_id),
            ]
            for index, outcome in self.outcomes.items()
        ]
        return records.Outcome(self.change.change_id, 200, document={"operations": told})

    def renamed(self, step: bulks.Step) -> bulks.Step:
        """Refer to users who were revived by the ids they have."""
        if not self.names:
            return step
        return tuple(
            dataclasses.replace(part, content=part.content.renamed(self.names))
            if part.needs and isinstance(part.content, records.Change)
            else part
            for part in step
        )

    def close(self, unit: units.Unit) -> None:
        """Log that nothing else will come, and of each operation that is left that it was not begun."""
        if unit.recall(self.change) is None:
            for change in bulks.changes_of(self.bulk.steps[self.done :]):
                unit.note(change, records.Outcome(change.change_id, NOT_BEGUN, detail=ENOUGH_ERRORS))
            unit.note(self._row(), records.Outcome(self.change.change_id, 200))
        self.is_closed = True

    def _copy(self) -> Progress:
        return dataclasses.replace(self, outcomes=dict(self.outcomes), names=dict(self.names))

    def _row(self) -> records.Change:
        """Make what the log holds of the bulk itself: its operations have rows of their own."""
        count = sum(map(len, self.bulk.steps))
        body = {"failOnErrors": self.bulk.fail_on_errors, "operations": count}
        return dataclasses.replace(self.change, body=body)


def begin(
    change: records.Change, bulk: bulks.Bulk, logged: Mapping[ids.ChangeId, records.Outcome]
) -> Progress:
    """Find out how far a bulk has come; `logged` is what the change log holds of it and its operations."""
    progress = Progress(change, bulk, bulk.change_id in logged)
    for step in bulk.steps:
        outcomes = [_settled(part, logged) for part in step]
        known = [outcome for outcome in outcomes if outcome is not None]
        if progress.has_ended or len(known) < len(step):
            break
        progress.note(step, known)
    return progress


def read_reply(outcome: records.Outcome) -> dict[int, records.Outcome]:
    """Read the outcomes of the operations, by their places, from what `Progress.reply` made."""
    told = (outcome.document or {})["operations"]
    return {
        index: records.Outcome(
            bulks.NO_CHANGE,
            status,
            scim_type,
            detail,
            version,
            resource_id=None if about is None else ids.ResourceId(uuid.UUID(about)),
        )
        for index, status, scim_type, detail, version, about in told
    }


def _settled(part: bulks.Part, logged: Mapping[ids.ChangeId, records.Outcome]) -> records.Outcome | None:
    if isinstance(part.content, records.Outcome):
        return part.content
    return logged.get(part.content.change_id)


def _applied(progress: Progress, unit: units.Unit, step: bulks.Step) -> list[records.Outcome]:
    decided = [_decided(progress, unit, part, step) for part in step]
    blamed = next((part for part, outcome in zip(step, decided, strict=True) if outcome), None)
    if blamed is not None:
        # One of a circle is refused: none of the others has what it refers to.
        return [
            outcome or _unresolved(unit, part, blamed.index)
            for part, outcome in zip(step, decided, strict=True)
        ]
    changes = bulks.changes_of([step])
    if not _is_circular(step):
        return [unit.apply(change) for change in changes]
    try:
        return unit.create_together(changes)
    except units.NoneCreated as exc:
        [culprit] = (
            part
            for part, change in zip(step, changes, strict=True)
            if change.change_id == exc.change.change_id
        )
        return [
            unit.note(exc.change, exc.outcome) if part is culprit else _unresolved(unit, part, culprit.index)
            for part in step
        ]


def _decided(
    progress: Progress, unit: units.Unit, part: bulks.Part, step: bulks.Step
) -> records.Outcome | None:
    """Return the outcome that an operation has without being applied, if it has one."""
    if isinstance(part.content, records.Outcome):
        return part.content
    logged = unit.recall(part.content)
    if logged is not None:
        return logged
    within = {one.index for one in step}
    lost = (need for need in part.needs if need not in within and not progress.outcomes[need].succeeded)
    missing = next(lost, None)
    return None if missing is None else _unresolved(unit, part, missing)


def _is_circular(step: bulks.Step) -> bool:
    return len(step) > 1 or step[0].index in step[0].needs


def _unresolved(unit: units.Unit, part: bulks.Part, missing: int) -> records.Outcome:
    """Refuse an operation that refers to what was not created, with the status of RFC 7644 §3.7.1."""
    detail = f"It refers to what Operations[{missing}] was to create, and that one failed."
    if isinstance(part.content, records.Outcome):
        return part.content
    return unit.note(part.content, records.Outcome(part.content.change_id, 409, detail=detail))
