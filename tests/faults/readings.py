"""What reads may show: rule *reads*.

Each read that was answered asks one `Question`: was it so, behind one of the steps that it may have met? That
holds what counts most: access that was taken away is not seen again, neither after the answer nor after the
acceptance; what was acknowledged is seen; nothing that is there is missing. `shown_again` and `missed` say as
much once more from the history alone, whatever the log holds.
"""

from __future__ import annotations

import collections
import functools
import itertools
from collections.abc import Iterable, Iterator

from histories import Attempt, Operation
from models import gives
from orders import Moments
from replays import Question, Say, Shown, State

REFUSALS = frozenset({400, 409, 412})

ANYBODY = ("", "")
"""What may give any access to anybody, as far as its client knows."""


def questions(attempts: Iterable[Attempt], moments: Moments, say: Say) -> Iterator[Question]:
    """Ask about each read that was answered."""
    for attempt in attempts:
        if not attempt.operation.is_read or not attempt.is_definite:
            continue
        if attempt.status not in (200, 404):
            say("reads", f"{attempt.request_id} ({attempt.operation.kind}) was answered {attempt.status}")
            continue
        assert attempt.ended_wall is not None
        span = moments.span(attempt.sent_wall, attempt.ended_wall)
        yield _question(attempt, span)


def _question(attempt: Attempt, span: object) -> Question:
    wanted = attempt.operation
    seen = attempt.seen if attempt.status == 200 else None
    what = "nothing" if seen is None else seen
    words = f"{attempt.request_id} ({wanted.kind} {wanted.target or wanted.name}) saw {what}"
    make = functools.partial(Question, "reads", words, span)  # type: ignore[arg-type]
    match wanted.kind:
        case "list_active":
            listed = {one["id"]: one["version"] for one in seen or ()}
            return make(
                lambda state: state.active() == listed,
                State.active,
                lambda state: listed.keys() <= state.active().keys(),
            )
        case "find_user":
            found = seen or []
            return make(
                lambda state: state.found(wanted.name) == found,
                lambda state: state.found(wanted.name),
                _had_access(found),
            )
        case "read_user":
            user = seen[0] if seen else None
            return make(
                lambda state: state.user(wanted.target) == user,
                lambda state: state.user(wanted.target),
                _had_access([user] if user else []),
            )
        case _:
            group = seen[0] if seen else None
            return make(
                lambda state: state.group(wanted.target) == group,
                lambda state: state.group(wanted.target),
                lambda state: _members(group) <= _members(state.group(wanted.target)),
            )


def _had_access(seen: list[Shown]):  # type: ignore[no-untyped-def]
    def had(state: State) -> bool:
        for one in seen:
            user = state.user(one["id"])
            is_active = user is not None and user["active"]
            groups = set() if user is None else set(user["groups"])
            if (one["active"] and not is_active) or not set(one["groups"]) <= groups:
                return False
        return True

    return had


def _members(group: Shown | None) -> set[str]:
    return set() if group is None else set(group["members"])


def shown_again(attempts: Iterable[Attempt], say: Say) -> None:
    """Look for access that a read shows although it was taken away and nobody has asked for it since."""
    attempts = list(attempts)
    taken: dict[tuple[str, str], list[Attempt]] = collections.defaultdict(list)
    for attempt in attempts:
        if attempt.status in (200, 204) and not attempt.operation.is_read:
            for key in _taken(attempt.operation):
                taken[key].append(attempt)
    given = _given(attempt for attempt in attempts if gives(attempt.operation))
    for read in attempts:
        if not read.operation.is_read or read.status != 200:
            continue
        for key in _access(read):
            last = next((one for one in reversed(taken.get(key, ())) if one.ended < read.sent), None)
            if last is None:
                continue
            asked = itertools.chain(reversed(given.get(key, ())), reversed(given.get(ANYBODY, ())))
            if not any(one.ended > last.sent and one.sent < read.ended for one in asked):
                say(
                    "reads",
                    f"ACCESS THAT WAS TAKEN AWAY: {read.request_id} ({read.operation.kind}) shows {key}"
                    f" again: {last.request_id} ({last.operation.kind}) took it, and nobody asked since",
                )


def missed(attempts: Iterable[Attempt], say: Say) -> None:
    """Look for what a read misses although it was made before, and nobody has asked for its end."""
    made: dict[str, Attempt] = {}
    ending: dict[str, float] = {}
    attempts = list(attempts)
    for attempt in attempts:
        if attempt.status == 201:
            for one in attempt.seen:
                made.setdefault(one.get("id", ""), attempt)
        for wanted in attempt.operation.parts or (attempt.operation,):
            if wanted.kind.startswith("delete"):
                ending.setdefault(wanted.target, attempt.sent)
    for read in attempts:
        target = read.operation.target
        if read.operation.is_read and read.status == 404 and target in made:
            maker = made[target]
            if maker.ended < read.sent and ending.get(target, float("inf")) > read.ended:
                say(
                    "reads",
                    f"{read.request_id} ({read.operation.kind} {target}) found nothing: {maker.request_id}"
                    " had made it, and nobody asked for its end",
                )


def _taken(wanted: Operation) -> list[tuple[str, str]]:
    """Name the access that is gone when this succeeded: of a user, or of a user to a group."""
    if wanted.kind in ("deactivate", "delete_user") or (wanted.kind == "put_user" and wanted.active is False):
        return [(wanted.target, "")]
    if wanted.kind == "remove_members":
        return [(member, wanted.target) for member in wanted.members]
    return []


def _access(read: Attempt) -> Iterator[tuple[str, str]]:
    for one in read.seen:
        if read.operation.kind == "read_group":
            yield from ((member, one["id"]) for member in one["members"])
        elif one.get("active", True):
            yield one["id"], ""
        if "groups" in one:
            yield from ((one["id"], group) for group in one["groups"])


def _given(giving: Iterable[Attempt]) -> dict[tuple[str, str], list[Attempt]]:
    """Sort what may give access by what it gives.

    A create may be the return of somebody inactive: to whom it gives access its answer says, if there is one.
    """
    found: dict[tuple[str, str], list[Attempt]] = collections.defaultdict(list)
    for attempt in giving:
        if attempt.status in REFUSALS:
            continue
        wanted = attempt.operation
        made = attempt.seen[0].get("id", "") if attempt.seen and wanted.kind != "bulk" else ""
        match wanted.kind:
            case "create_user":
                found[made, ""].append(attempt)
            case "activate" | "put_user":
                found[wanted.target, ""].append(attempt)
            case "add_members" | "replace_members":
                for member in wanted.members:
                    found[member, wanted.target].append(attempt)
            case "create_group" if made:
                for member in wanted.members:
                    found[member, made].append(attempt)
            case _:
                found[ANYBODY].append(attempt)
    return found
