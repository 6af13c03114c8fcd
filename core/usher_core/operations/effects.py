"""What a change did, as far as the log tells: the differences between before and after.

Called by `changes show`. The log is read here, `replays` does the rest.
"""

from __future__ import annotations

import dataclasses
from typing import Final

from usher_core.changes import memberships
from usher_core.operations import diffs, moments, replays
from usher_core.scim import schemas
from usher_core.store import databases, histories

# So many changes of one resource are applied again at most.
MOST: Final = 5000

_NOTHING: Final = {
    "pending": "Nothing yet: it waits in the stream.",
    "refused": "Nothing: it was refused.",
    "dead": "Nothing: it is kept as a dead letter.",
    "failed": "Nothing: it failed, and its dead letter was settled.",
}
_OTHERS: Final = {
    "discard": "Nothing: a dead letter was discarded.",
    "schemas": "The tenant's own schemas are those in its body from then on.",
    "bulk": "What its operations did: each is a change of its own.",
}


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """The differences that a change made, `None` where they can't be told; `note` says what is to be said."""

    differences: tuple[diffs.Difference, ...] | None
    note: str | None = None


async def tell(database: databases.Database, registry: schemas.Registry, entry: histories.Entry) -> Effect:
    """Find out what a change did."""
    if entry.state != "applied":
        return Effect((), _NOTHING[entry.state])
    if entry.operation not in replays.REPLAYED:
        return Effect((), _OTHERS.get(entry.operation, "Nothing that the log holds."))
    history = await histories.history(database, entry, limit=MOST)
    begin = replays.anchor(registry, history)
    departures: list[histories.Entry] = []
    if begin is not None and registry.by_name(entry.resource_type).stored_apart:
        members = replays.mentioned(registry, history[begin:])
        first, last = history[begin].order[0], history[-1].order[0]
        departures = await histories.departures(database, entry.tenant, members, first, last)
    try:
        return _effect(replays.replay(registry, history, departures), history[0])
    except replays.ReplayFailed as exc:
        return Effect(None, f"This can't be told: {exc}.")


def _effect(replayed: replays.Effect, first: histories.Entry) -> Effect:
    before, after = replayed.before, replayed.after
    if before is None:
        return Effect(
            None,
            "What was before is not known: of this resource the log holds nothing that was accepted before"
            f" {moments.iso(first.accepted_at)}.",
        )
    differences = diffs.compare(
        None if before.stored is None else before.stored.document,
        None if after.stored is None else after.stored.document,
    )
    if before.members is None or after.members is None:
        return Effect(tuple(differences), "Who was a member before is not known: the log does not hold it.")
    gone = [one for key, one in before.members.items() if key not in after.members]
    come = [one for key, one in after.members.items() if key not in before.members]
    differences += [diffs.Difference("members", _member(one), None) for one in gone]
    differences += [diffs.Difference("members", None, _member(one)) for one in come]
    return Effect(tuple(differences), None if differences else "Nothing: everything was so already.")


def _member(member: memberships.Member) -> dict[str, str]:
    shown = {"value": str(member.id)}
    return shown if member.display is None else shown | {"display": member.display}
