"""What a change did, computed anew from the change log; pure.

The log keeps what came in and what became of it, no images of the resource. But the engine is pure and the
log is in order, so the changes of a resource, applied again, tell what it was before and after each of
them. That can begin wherever the log holds a whole document: at a create, a replacement or a restoration.
`reports` calls this with the rows that `store.histories` finds. Invariant: a replay that the log contradicts
tells nothing rather than a guess.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, cast

from usher_core import errors, ids
from usher_core.changes import memberships, policies, records, snapshots, units
from usher_core.scim import schemas
from usher_core.store import histories

Members = dict[ids.ResourceId, memberships.Member]

WHOLE = frozenset({"create", "replace", "restore"})
"""Operations that hold a whole document."""

REPLAYED = WHOLE | {"patch", "delete"}
"""Operations on one resource."""

# So many members no change makes a group have.
_UNKNOWN = -(2**40)

# Everything was allowed, for it has happened.
_POLICY = policies.Policy(email_names=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Image:
    """A resource at one moment: `stored` is `None` while it is not there, `members` if they are unknown."""

    stored: snapshots.Stored | None
    members: Members | None


@dataclasses.dataclass(frozen=True, slots=True)
class Effect:
    """What one change did; `before` is `None` where the log does not reach back far enough."""

    before: Image | None
    after: Image


class ReplayFailed(errors.UsherError):
    """The log does not tell what the change did; the message says why."""


def replay(
    registry: schemas.Registry, history: Sequence[histories.Entry], departures: Iterable[histories.Entry] = ()
) -> Effect:
    """Apply the changes of one resource again, in order, and tell what the last of them did.

    `history` are those that took effect; `departures` the deletions and revivals of others, which left a
    group thereby.

    Raises:
        ReplayFailed: no change of them holds a whole document, or the log contradicts the replay.
    """
    begin = anchor(registry, history)
    if begin is None:
        raise ReplayFailed("what came before is no longer in the log")
    previous: Image | None = None
    before: Image | None = None
    # A create of a resource that was not there finds nothing; of anything else nobody knows what it found.
    if _is_first(history[begin]):
        before = Image(None, {})
    left = sorted(departures, key=lambda entry: entry.order)
    for entry in history[begin:]:
        while left and left[0].order < entry.order:
            before = _without(before, left.pop(0).resource_id)
        previous, before = before, _step(registry, before, entry)
    assert before is not None  # noqa: S101 - there was at least the anchor
    return Effect(previous, before)


def anchor(registry: schemas.Registry, history: Sequence[histories.Entry]) -> int | None:
    """Tell where a replay can begin: at the last change that holds the whole resource.

    Better before the end than at it, and better with a group's members than without; `None`: nowhere.
    """
    last = len(history) - 1
    ranked = [
        (number < last, _holds_members(registry, entry), number)
        for number, entry in enumerate(history)
        if entry.operation in WHOLE
    ]
    return max(ranked)[-1] if ranked else None


def _holds_members(registry: schemas.Registry, entry: histories.Entry) -> bool:
    apart = registry.by_name(entry.resource_type).stored_apart
    return entry.operation == "create" or apart <= entry.body.keys()


def mentioned(registry: schemas.Registry, history: Iterable[histories.Entry]) -> set[ids.ResourceId]:
    """List the ids that the changes of a group name as members."""
    needs = snapshots.Needs()
    for entry in history:
        with contextlib.suppress(errors.ScimError):
            snapshots.ask(needs, registry, _as_change(entry))
    return {member for _, member in needs.pairs}


def _is_first(entry: histories.Entry) -> bool:
    return entry.operation == "create" and entry.version == 1


def _without(image: Image | None, member: ids.ResourceId) -> Image | None:
    if image is None or not image.members or member not in image.members:
        return image
    return Image(image.stored, {key: value for key, value in image.members.items() if key != member})


def _step(registry: schemas.Registry, before: Image | None, entry: histories.Entry) -> Image:
    try:
        if before is None or (before.stored is None and entry.operation == "restore"):
            return _from_document(registry, entry)
        return _applied(registry, before, entry)
    except (errors.ScimError, KeyError, TypeError, ValueError, AttributeError) as exc:
        raise ReplayFailed(f"the {entry.operation} of {entry.change_id} can't be applied again") from exc


def _from_document(registry: schemas.Registry, entry: histories.Entry) -> Image:
    """Take the resource from a change that holds it whole."""
    apart = registry.by_name(entry.resource_type).stored_apart
    members: Members | None = {}
    if apart & entry.body.keys():
        nobody = Image(_stored(entry, {}), {})
        members = _applied(
            registry, nobody, dataclasses.replace(entry, operation="replace", version=None)
        ).members
    elif apart and entry.operation != "create":
        members = None
    document = {key: value for key, value in entry.body.items() if key not in apart}
    return Image(_stored(entry, document), members)


def _applied(registry: schemas.Registry, before: Image, entry: histories.Entry) -> Image:
    change = _as_change(entry)
    needs = snapshots.Needs()
    snapshots.ask(needs, registry, change)
    unit = units.Unit(registry, _snapshot(registry, before, entry, needs))
    outcome = unit.apply(change)
    _insist(outcome.succeeded, entry)
    writes = unit.writes()
    if entry.operation == "delete":
        return Image(None, {})
    stored = next(iter([*writes.inserted, *writes.updated]), before.stored)
    if stored is None:
        raise ReplayFailed(f"the {entry.operation} of {entry.change_id} made nothing")
    if entry.version is not None:
        if not registry.by_name(entry.resource_type).stored_apart:
            _insist(stored.version == entry.version, entry)
        elif before.members is not None:
            # A group's version also goes up when a member is deleted, which is no change of the group.
            _insist(stored.version <= entry.version, entry)
        stored = dataclasses.replace(stored, version=entry.version)
    return Image(stored, _joined(before.members, writes.memberships.get(entry.resource_id)))


def _insist(agrees: bool, entry: histories.Entry) -> None:
    if not agrees:
        raise ReplayFailed(f"the log contradicts itself at {entry.change_id}: changes before it are missing")


def _joined(members: Members | None, membership: memberships.Membership | None) -> Members | None:
    if membership is None:
        return members
    if membership.replaced:
        members = {}
    if members is None:
        return None
    found = members | {key: one for key, one in membership.overrides.items() if one is not None}
    return {key: one for key, one in found.items() if membership.overrides.get(key, one) is not None}


def _snapshot(
    registry: schemas.Registry, before: Image, entry: histories.Entry, needs: snapshots.Needs
) -> snapshots.Snapshot:
    """Answer the needs of one change from the image alone: whatever else it needed was there."""
    members = before.members or {}
    found = snapshots.Snapshot(now=entry.applied_at or entry.accepted_at, policy=_POLICY)
    found.owners = dict.fromkeys(needs.owners)
    found.pairs = {(group, member) for group, member in needs.pairs if member in members}
    found.targets = dict.fromkeys(needs.targets, policies.USERS)
    # Members that nobody knows are never as many as a change may name.
    count = len(members) if before.members is not None else _UNKNOWN
    found.counted = dict.fromkeys(needs.counted, count)
    found.left = {member: set() for member in needs.left}
    if before.stored is not None:
        found.resources[entry.resource_id] = before.stored
        resource_type = registry.by_name(entry.resource_type)
        for key in snapshots.unique_keys(resource_type, before.stored.document):
            found.owners[key] = entry.resource_id
        found.left.setdefault(entry.resource_id, set())
    return found


def _stored(entry: histories.Entry, document: dict[str, Any]) -> snapshots.Stored:
    moment = entry.applied_at or entry.accepted_at
    return snapshots.Stored(
        entry.resource_type, entry.resource_id, entry.version or 1, document, moment, moment
    )


def _as_change(entry: histories.Entry) -> records.Change:
    # If-Match is not in the log, and it held.
    return records.Change(
        entry.change_id, entry.accepted_at, cast(records.Operation, entry.operation), entry.resource_type,
        entry.resource_id, entry.body, None, entry.token_id, entry.request_id, "",
    )  # fmt: skip
