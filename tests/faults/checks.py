"""Judges a history: pure, over what clients recorded and what was found when all had come to rest.

Rules, each violation told in words: *answers* (each definite answer has its one row, an unknown one at most
one, no row is anybody else's), *replay*, *events* (`replays`), *real time* (what was answered before another
was sent stands before it), *reads* (`readings`), *leftovers* (nothing waits, nothing is fenced),
*dead letters* (of what is deadly, and of nothing else).
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable, Iterator, Mapping

import orders
import readings
import replays
from evidences import Evidence, Row
from histories import Attempt, History, Operation
from orders import Entry
from replays import Say

MEMBERS = ("add_members", "remove_members", "replace_members")
STATUSES = frozenset({200, 201, 202, 204, 400, 404, 409, 412})
REPLAYED_FOR = 60_000_000
"""Microseconds after its effect for which the outcome of an answered request may be given to one like it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Violation:
    """What should not be: the rule that it breaks, the tenant, and what happened."""

    rule: str
    tenant: str
    words: str

    def __str__(self) -> str:
        return f"[{self.rule}] tenant {self.tenant}: {self.words}"


def check(history: History, found: Mapping[str, Evidence]) -> list[Violation]:
    """List every violation, tenant by tenant."""
    violations: list[Violation] = []
    attempts: dict[str, list[Attempt]] = {tenant: [] for tenant in found}
    for attempt in history.attempts:
        attempts[attempt.tenant].append(attempt)
    for tenant, evidence in found.items():

        def say(rule: str, words: str, tenant: str = tenant) -> None:
            violations.append(Violation(rule, tenant, words))

        _Trial(attempts[tenant], evidence, say).hold()
        _look_at_unheard(attempts[tenant], history.whole_since, say)
    return violations


def _look_at_unheard(attempts: list[Attempt], whole_since: float, say: Say) -> None:
    """Who asks again when nothing fails any more is told what became of it."""
    last = {attempt.wish: attempt for attempt in attempts if attempt.sent >= whole_since}
    for attempt in last.values():
        if not attempt.is_definite:
            told = attempt.status or "not answered"
            say("wishes", f"{_name(attempt)} is {told} at its last try, though nothing failed any more")


class _Trial:
    """The check of one tenant."""

    def __init__(self, attempts: list[Attempt], evidence: Evidence, say: Say) -> None:
        self._attempts = attempts
        self._writes = [attempt for attempt in attempts if not attempt.operation.is_read]
        self._evidence = evidence
        self._say = say
        self._entries = list(self._matched())
        self._by_attempt: dict[int, list[Entry]] = collections.defaultdict(list)
        for entry in self._entries:
            self._by_attempt[entry.attempt.number].append(entry)
        self._steps = orders.steps(self._entries, evidence.events)
        self._moments = orders.Moments(self._steps)
        self._alike: dict[tuple[str, ...], list[Attempt]] = collections.defaultdict(list)
        for attempt in self._writes:
            self._alike[_fingerprint(attempt)].append(attempt)
        self._ended = {
            attempt.number: attempt.ended if attempt.status in STATUSES else float("inf")
            for attempt in self._writes
        }

    def hold(self) -> None:
        asked = [question for attempt in self._writes for question in self._answer(attempt)]
        asked += readings.questions(self._attempts, self._moments, self._say)
        self._look_at_order()
        by_change = {entry.row.change_id: entry for entry in self._entries}
        replay = replays.Replay(self._steps, self._moments, by_change, self._say)
        replay.walk(asked)
        self._compare_ends(replay.state)
        readings.shown_again(self._attempts, self._say)
        readings.missed(self._attempts, self._say)
        self._look_at_leftovers()

    # answers

    def _matched(self) -> Iterator[Entry]:
        sent = {attempt.request_id: attempt for attempt in self._writes}
        for row in sorted(self._evidence.rows, key=lambda row: row.order):
            attempt = sent.get(row.request_id)
            if attempt is None:
                self._say("answers", f"row {row.change_id} is of {row.request_id}, which nobody sent")
                continue
            wanted = attempt.operation
            if row.bulk_index is not None:
                wanted = wanted.parts[row.bulk_index]
            yield Entry(row, attempt, wanted)

    def _answer(self, attempt: Attempt) -> Iterator[replays.Question]:
        """Compare an answer with the rows it has; ask about what a state must have been for it."""
        rows = collections.Counter(
            (entry.wanted.kind, entry.row.bulk_index) for entry in self._by_attempt[attempt.number]
        )
        for (kind, index), count in rows.items():
            if count > 1:
                place = "" if index is None else f", part {index}"
                self._say("answers", f"{_name(attempt)}: {count} rows of one {kind}{place}")
        if attempt.status == 503 and not attempt.why.startswith("Retry-After: "):
            self._say("answers", f"{_name(attempt)}: 503 {attempt.why}")
        if not attempt.is_definite or (attempt.operation.deadly and attempt.status == 500):
            return
        if attempt.status not in STATUSES:
            self._say("answers", f"{_name(attempt)} was answered {attempt.status} {attempt.why}")
            return
        assert attempt.ended_wall is not None
        for entry in self._by_attempt[attempt.number]:
            if attempt.status != 202 and attempt.ended_wall + orders.SLACK < entry.row.applied_at:
                self._say("answers", f"{_name(attempt)} was answered before it was applied")
        own = [entry.row for entry in self._by_attempt[attempt.number] if entry.row.bulk_index is None]
        if not own:
            yield from self._repeated(attempt)
        elif attempt.operation.kind == "bulk":
            self._answer_bulk(attempt)
        else:
            yield from self._answer_own(attempt, own[0])

    def _answer_own(self, attempt: Attempt, row: Row) -> Iterator[replays.Question]:
        if attempt.status == 202:
            return
        if attempt.status == 404 and row.status < 300:
            # Its outcome was looked up in the log, and what it changed had gone: told, but too late to show.
            yield self._gone_by_then(attempt, row)
        elif attempt.status != _status(row, attempt.operation):
            self._say("answers", f"{_name(attempt)} was answered {attempt.status}; logged as {row.status}")
        elif attempt.seen:
            told = attempt.seen[0]
            if told.get("id", row.resource_id) != row.resource_id:
                self._say("answers", f"{_name(attempt)} was shown {told}; logged: {row.resource_id}")
            if told["version"] != row.version:
                # It was applied by a worker that died, and is told by another as it stands.
                yield self._as_it_stands(attempt, row, told["version"])

    def _answer_bulk(self, attempt: Attempt) -> None:
        logged = {
            entry.row.bulk_index: _status(entry.row, entry.wanted)
            for entry in self._by_attempt[attempt.number]
            if entry.row.bulk_index is not None
        }
        told = {index: part["status"] for index, part in enumerate(attempt.seen)}
        if attempt.status != 200 or told != logged:
            self._say("answers", f"{_name(attempt)} was answered {attempt.status} {told}; logged: {logged}")

    def _repeated(self, attempt: Attempt) -> Iterator[replays.Question]:
        """Look for the request whose outcome was given to this one, which has no row of its own."""
        found = [
            (earlier, row)
            for earlier in self._alike[_fingerprint(attempt)]
            for row in (entry.row for entry in self._by_attempt[earlier.number])
            if earlier.sent < attempt.ended
            and row.status < 300
            and _status(row, attempt.operation) == attempt.status
            and (not earlier.is_definite or attempt.sent_wall <= row.applied_at + REPLAYED_FOR)
            # More than one may have been applied, as when a user is deactivated and revived in between.
            and (not attempt.seen or attempt.seen[0]["version"] == row.version)
        ]
        if not found:
            self._say("answers", f"{_name(attempt)} was answered {attempt.status}, and there is no row of it")
            return
        earlier, row = max(found, key=lambda one: one[1].applied_at)
        # Its effect was known by the time of the second answer.
        self._ended[earlier.number] = min(self._ended[earlier.number], attempt.ended)
        yield self._still_so(attempt, row)

    def _still_so(self, attempt: Attempt, row: Row) -> replays.Question:
        wanted = row.resource_id
        return self._ask(
            attempt,
            f"got the outcome of {row.request_id}, {wanted} at version {row.version}",
            lambda state: _version(state, wanted) == row.version,
            lambda state: _version(state, wanted),
        )

    def _as_it_stands(self, attempt: Attempt, row: Row, version: int) -> replays.Question:
        wanted = row.resource_id
        return self._ask(
            attempt,
            f"was shown version {version} of {wanted}; logged is {row.version}",
            lambda state: _version(state, wanted) == version > (row.version or 0),
            lambda state: _version(state, wanted),
        )

    def _gone_by_then(self, attempt: Attempt, row: Row) -> replays.Question:
        wanted = row.resource_id
        return self._ask(
            attempt,
            f"was answered 404 and logged as {row.status}, as if {wanted} had been deleted since",
            lambda state: _version(state, wanted) is None,
            lambda state: _version(state, wanted),
        )

    def _ask(self, attempt: Attempt, words: str, holds, shown) -> replays.Question:  # type: ignore[no-untyped-def]
        assert attempt.ended_wall is not None
        span = self._moments.span(attempt.sent_wall, attempt.ended_wall)
        return replays.Question("answers", f"{_name(attempt)} {words}", span, holds, shown)

    # real time

    def _look_at_order(self) -> None:
        places = orders.places(self._entries)
        logged = [attempt for attempt in self._writes if attempt.number in places]
        by_end = sorted(logged, key=lambda attempt: self._ended[attempt.number])
        latest, before = -1, None
        at = 0
        for attempt in sorted(logged, key=lambda attempt: attempt.sent):
            while at < len(by_end) and self._ended[by_end[at].number] < attempt.sent:
                if places[by_end[at].number][1] > latest:
                    latest, before = places[by_end[at].number][1], by_end[at]
                at += 1
            if before is not None and places[attempt.number][0] < latest:
                self._say(
                    "real time",
                    f"{_name(before)} was answered before {_name(attempt)} was sent, and stands behind it",
                )
        for earlier, later in zip(self._entries, self._entries[1:], strict=False):
            if earlier.row.position > later.row.position:
                self._say(
                    "real time",
                    f"{_name(later.attempt)} stood before {_name(earlier.attempt)} in the stream, and was "
                    "applied behind it",
                )

    # the end

    def _compare_ends(self, state: replays.State) -> None:
        evidence = self._evidence
        for what, found, wanted, show in (
            ("user", evidence.users, state.directory.users, state.user),
            ("group", evidence.groups, state.directory.groups, state.group),
        ):
            shown = {one["id"]: one for one in found}
            if len(shown) != len(found):
                self._say("replay", f"at the end a {what} is listed twice")
            for one in sorted(shown.keys() | wanted.keys()):
                expected = show(one)
                if shown.get(one) != expected:
                    self._say("replay", f"at the end {what} {one} is {shown.get(one)}, should be {expected}")
        if evidence.names != state.directory.holders:
            self._say("replay", f"names are held so: {evidence.names}; should be: {state.directory.holders}")

    def _look_at_leftovers(self) -> None:
        evidence = self._evidence
        if evidence.pending:
            self._say("leftovers", f"{evidence.pending} changes still stand in the stream")
        if evidence.inbox:
            self._say("leftovers", f"promised and not applied: {evidence.inbox}")
        if evidence.fences:
            self._say("leftovers", f"fences still stand, of: {evidence.fences}")
        deadly = {entry.row.change_id for entry in self._entries if entry.wanted.deadly}
        dead = {entry.row.change_id for entry in self._entries if entry.row.status == replays.DEAD}
        if dead != deadly:
            self._say("dead letters", f"logged as dead: {sorted(dead)}; deadly are: {sorted(deadly)}")
        if set(evidence.dead_letters) != dead:
            self._say("dead letters", f"kept: {evidence.dead_letters}; logged as dead: {sorted(dead)}")


def _status(row: Row, wanted: Operation) -> int:
    """Tell how a row is answered: a PATCH of a group that succeeds with 204."""
    return 204 if row.status == 200 and wanted.kind in MEMBERS else row.status


def _fingerprint(attempt: Attempt) -> tuple[str, ...]:
    """Tell requests apart that the service must tell apart; only a POST or DELETE may be repeated."""
    wanted = attempt.operation
    if wanted.kind in ("delete_user", "delete_group"):
        return wanted.kind, wanted.target, str(wanted.later)
    if wanted.kind in ("create_user", "create_group"):
        return wanted.kind, str(attempt.wish)
    return "", str(attempt.number)


def _version(state: replays.State, wanted: str) -> int | None:
    held: Iterable[Mapping[str, object]] = (state.directory.users, state.directory.groups)
    return next((one[wanted].version for one in held if wanted in one), None)  # type: ignore[attr-defined]


def _name(attempt: Attempt) -> str:
    wanted = attempt.operation
    return f"{attempt.request_id} ({wanted.kind} {wanted.target or wanted.name})"
