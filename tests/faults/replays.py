"""Plays the log through the model, step by step, and asks at each step what was asked about it.

Rules of this module: *replay* (each row says what the model says), *events* (each change that changed
something has one, in the order of effect; revocations are told at their acceptance), and every `Question`
that others ask of the states in between: what a read saw must have been so at one of the moments it may have
met.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from evidences import Event, Row
from histories import ALL_ZEROS, Operation
from models import Directory, Expected, Fence, takes_away
from orders import Entry, Moments, Span, Step

EVENT_KINDS = {"create": "create", "replace": "put", "patch": "patch", "delete": "delete"}
DEAD = 500

Shown = dict[str, Any]
Say = Callable[[str, str], None]
"""Reports a violation of a rule in words."""


class State:
    """The directory behind a step, and what reads as taken away there."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.fences: dict[Fence, set[str]] = collections.defaultdict(set)
        self.made: dict[str, dict[int, str | None]] = collections.defaultdict(dict)

    def user(self, wanted: str) -> Shown | None:
        """Show a user as a read does."""
        user = self.directory.users.get(wanted)
        if user is None:
            return None
        is_fenced = bool(self.fences.get((wanted, "")))
        groups = [one for one in self.directory.groups if self._is_member(wanted, one)]
        return {
            "id": wanted,
            "version": user.version,
            "fenced": is_fenced,
            "name": user.name,
            "external": user.external,
            "title": user.title,
            "active": user.active and not is_fenced,
            "groups": sorted(groups),
        }

    def group(self, wanted: str) -> Shown | None:
        """Show a group as a read does."""
        group = self.directory.groups.get(wanted)
        if group is None:
            return None
        return {
            "id": wanted,
            "version": group.version,
            "fenced": any(held and fence[1] == wanted for fence, held in self.fences.items()),
            "name": group.name,
            "members": sorted(one for one in group.members if self._is_member(one, wanted)),
        }

    def found(self, name: str) -> list[Shown]:
        """Show who is found by a userName."""
        holder = self.directory.holders.get(name.casefold())
        shown = None if holder is None else self.user(holder)
        return [] if shown is None else [shown]

    def active(self) -> dict[str, int]:
        """List who has access, with their versions."""
        return {
            one: user.version
            for one, user in self.directory.users.items()
            if user.active and not self.fences.get((one, ""))
        }

    def _is_member(self, user: str, group: str) -> bool:
        return user in self.directory.groups[group].members and not self.fences.get((user, group))


@dataclasses.dataclass(slots=True)
class Question:
    """Something that must hold behind one of the steps of `span`.

    `access` tells whether the access that was seen existed; `shown` what should have been seen.
    """

    rule: str
    words: str
    span: Span
    holds: Callable[[State], bool]
    shown: Callable[[State], Any]
    access: Callable[[State], bool] | None = None
    had_access: bool = False
    at_first: Any = None


class Replay:
    """One walk through the steps of a tenant."""

    def __init__(
        self, ordered: Sequence[Step], moments: Moments, entries: Mapping[str, Entry], say: Say
    ) -> None:
        """`entries`: by the ids of their changes."""
        self._steps = ordered
        self._moments = moments
        self._entries = entries
        self._say = say
        self._asked: list[Question] = []
        self._versions: dict[str, int] = {}
        self._number = 0
        self._accepted: dict[str, list[Fence]] = collections.defaultdict(list)
        self.state = State()

    def walk(self, questions: Iterable[Question]) -> None:
        """Apply everything, and answer the questions on the way."""
        waiting = sorted(questions, key=lambda question: question.span.first, reverse=True)
        for number, step in enumerate(self._steps):
            self._apply(step)
            while waiting and waiting[-1].span.first <= number:
                question = waiting.pop()
                question.at_first = question.shown(self.state)
                self._asked.append(question)
            self._asked = list(self._unanswered(self._asked, number))
        self._look_for_turns()

    def _unanswered(self, asked: list[Question], number: int) -> Iterator[Question]:
        for question in asked:
            if question.holds(self.state):
                continue
            if question.access is not None:
                question.had_access = question.had_access or question.access(self.state)
            if number < question.span.last:
                yield question
                continue
            taken = "" if question.access is None or question.had_access else "ACCESS THAT WAS TAKEN AWAY: "
            self._say(
                question.rule,
                f"{taken}{question.words}; it should be {question.at_first} (step {question.span.first})"
                f" up to {question.shown(self.state)} (step {question.span.last})",
            )

    def _apply(self, step: Step) -> None:
        expected: list[tuple[Any, ...]] = []
        for entry in step.entries:
            if entry.wanted.kind != "bulk":
                expected += self._turn(entry)
        told = [event for event in step.events if event.kind != "revoke"]
        for event in step.events:
            self._look_at(event)
            if event.kind == "revoke":
                self._accept(event)
        found = [_told(event) for event in told]
        if found != expected:
            self._say("events", f"at {step.at} the events are {found}, and should be {expected}")

    def _turn(self, entry: Entry) -> list[tuple[Any, ...]]:
        """Apply a row; list the events that tell of it."""
        row, wanted, directory = entry.row, entry.wanted, self.state.directory
        if row.status == DEAD:
            return []
        made = self.state.made[row.bulk_id or ""]
        expected = directory.apply(wanted, row.resource_id, made)
        if row.bulk_index is not None and wanted.kind.startswith("create"):
            made[row.bulk_index] = expected.about or None
        told = (row.status, row.version)
        if told != (expected.status, expected.version):
            self._say(
                "replay",
                f"{_name(entry)} is logged as {told}, and should be {expected.status, expected.version}",
            )
        if expected.about and expected.about != row.resource_id:
            self._say("replay", f"{_name(entry)} is about {row.resource_id}, and should be {expected.about}")
        self._compare_shown(entry)
        return list(self._events(row, wanted, expected))

    def _compare_shown(self, entry: Entry) -> None:
        """Compare the user that an answer shows at the version of its own change with what it made of it."""
        shown = entry.attempt.seen[0] if entry.attempt.seen and entry.row.bulk_index is None else {}
        if "name" not in shown or shown["version"] != entry.row.version:
            return
        user = self.state.user(shown["id"]) or {}
        made = {name: user.get(name) for name in shown}
        made["active"] = bool(user) and self.state.directory.users[shown["id"]].active
        if shown == {**made, "active": False} != made:
            # Its reply was lost, so it was told as a read tells it: without what was taken away meanwhile.
            self._asked.append(self._told_as_read(entry, shown))
        elif made != shown:
            self._say("answers", f"{_name(entry)} was shown {shown}, and should be {made}")

    def _told_as_read(self, entry: Entry, shown: Shown) -> Question:
        def read(state: State) -> Shown:
            user = state.user(shown["id"]) or {}
            return {name: user.get(name) for name in shown}

        assert entry.attempt.ended_wall is not None
        span = self._moments.span(entry.attempt.sent_wall, entry.attempt.ended_wall)
        words = f"{_name(entry)} was shown {shown}"
        question = Question("answers", words, span, lambda state: read(state) == shown, read)
        question.at_first = read(self.state)
        return question

    def _events(self, row: Row, wanted: Operation, expected: Expected) -> Iterator[tuple[Any, ...]]:
        about = expected.about or row.resource_id
        if expected.changed:
            yield EVENT_KINDS[row.operation], row.change_id, about, expected.version, None
        accepted = self._accepted.pop(row.change_id, [])
        if sorted(accepted) != sorted(takes_away(wanted)):
            self._say(
                "events",
                f"change {row.change_id} takes away {takes_away(wanted)}; told at its acceptance: {accepted}",
            )
        for fence in accepted:
            self.state.fences[fence].discard(row.change_id)
            if not self.state.fences[fence]:
                del self.state.fences[fence]
        if expected.status >= 400:
            for subject, group in takes_away(wanted):
                detail = {"member": subject} if group else None
                yield "unrevoke", row.change_id, group or subject, None, _frozen(detail)
        if wanted.later:
            yield "asyncresp", row.change_id, about, None, None

    def _accept(self, event: Event) -> None:
        if event.resource_type == "User":
            fence = event.resource_id, ""
        else:
            fence = (event.detail or {}).get("member", ALL_ZEROS), event.resource_id
        self._accepted[event.change_id].append(fence)
        self.state.fences[fence].add(event.change_id)
        entry = self._entries.get(event.change_id)
        if entry is not None and entry.row.applied_at < event.at:
            self._say("events", f"{_name(entry)} was told as accepted after its turn")

    def _look_at(self, event: Event) -> None:
        self._number += 1
        if event.number != self._number:
            self._say("events", f"event {event.number} stands where {self._number} should")
            self._number = event.number
        if event.version is not None and event.kind != "asyncresp":
            before = self._versions.get(event.resource_id, 0)
            if event.version <= before:
                self._say(
                    "events",
                    f"event {event.number}: {event.resource_id} is at {event.version} after {before}",
                )
            self._versions[event.resource_id] = event.version

    def _look_for_turns(self) -> None:
        for change, fences in self._accepted.items():
            entry = self._entries.get(change)
            if entry is None:
                self._say("events", f"change {change} was accepted to take away {fences}, and had no turn")


def _told(event: Event) -> tuple[Any, ...]:
    if event.kind == "asyncresp":  # what it tells besides is for the protocol's tests
        return event.kind, event.change_id, event.resource_id, None, None
    return event.kind, event.change_id, event.resource_id, event.version, _frozen(event.detail)


def _frozen(detail: dict[str, Any] | None) -> tuple[tuple[str, Any], ...] | None:
    return None if detail is None else tuple(sorted(detail.items()))


def _name(entry: Entry) -> str:
    return f"{entry.attempt.request_id} ({entry.wanted.kind} {entry.wanted.target or entry.wanted.name})"
