"""What access a change takes away: the fences that stand from its acceptance until its turn.

The api asks before it queues a change. A revocation is one that names what it takes away and needs no state
to say so: a user deactivated or deleted, a member removed from a group. A replacement of a group's members
and the deletion of a group are none, for whom they take out depends on the group at their turn. Neither is a
change with `If-Match`: whether it holds is known only then.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from usher_core import errors, ids
from usher_core.changes import policies, records, snapshots
from usher_core.scim import members as scim_members
from usher_core.scim import patches, schemas


@dataclasses.dataclass(frozen=True, slots=True)
class Fence:
    """What reads as taken away: a user (`group` is `None`), who is inactive, or a member of one group."""

    subject: ids.ResourceId
    group: ids.ResourceId | None = None


def fences(registry: schemas.Registry, change: records.Change) -> tuple[Fence, ...]:
    """List what a change takes away, whatever the store holds at its turn; empty for any other change."""
    if change.if_match is not None:
        return ()
    kind = _kind(registry, change)
    if kind is None:
        return ()
    if kind.name == policies.USERS:
        return (Fence(change.resource_id),) if _ends_user(kind, change) else ()
    if kind.stored_apart and change.operation == "patch":
        removed = _removed(kind, change.body)
        return tuple(Fence(member, change.resource_id) for member in removed)
    return ()


def takes_away(registry: schemas.Registry, change: records.Change) -> bool:
    """Tell whether a change is meant to take access away, also where its turn has to tell from whom."""
    kind = _kind(registry, change)
    if kind is None:
        return False
    if kind.name == policies.USERS:
        return _ends_user(kind, change)
    return bool(kind.stored_apart) and _empties(kind, change)


def _kind(registry: schemas.Registry, change: records.Change) -> schemas.ResourceType | None:
    """Find the type that a change is about; `None` for one that the tenant no longer has."""
    try:
        return registry.by_name(change.resource_type)
    except errors.NotFound:
        return None


def _ends_user(kind: schemas.ResourceType, change: records.Change) -> bool:
    match change.operation:
        case "delete":
            return True
        case "replace":
            return change.body.get("active") is False
        case "patch":
            return _deactivates(kind, change.body)
        case _:
            return False


def _deactivates(kind: schemas.ResourceType, dumped: Sequence[Any]) -> bool:
    """Tell whether an active user is inactive after the operations, the last word counting."""
    document: dict[str, Any] = {"active": True}
    for operation in _operations(dumped, kind):
        try:
            document = patches.apply(kind, document, (operation,)).document
        except errors.ScimError:
            continue  # it needs the user as it is: whatever it does, it is not this
    return document.get("active") is not True


def _removed(kind: schemas.ResourceType, dumped: Sequence[Any]) -> Iterable[ids.ResourceId]:
    """List the members that are named to leave and don't come back in the same message."""
    removed: dict[ids.ResourceId, None] = {}
    for operation in _operations(dumped, kind):
        for step in patches.brought(kind, operation).member_operations:
            match step:
                case scim_members.MembersRemoved(values):
                    removed.update(dict.fromkeys(_known(values)))
                case scim_members.MembersAdded(members) | scim_members.MembersReplaced(members):
                    for member in _known(member.value for member in members):
                        removed.pop(member, None)
                case _:
                    pass
    return removed


def _empties(kind: schemas.ResourceType, change: records.Change) -> bool:
    """Tell whether a change of a group may leave it without some of its members."""
    match change.operation:
        case "delete":
            return True
        case "replace":
            return any(name in change.body for name in kind.stored_apart)
        case "patch":
            return any(
                not isinstance(step, scim_members.MembersAdded)
                for operation in _operations(change.body, kind)
                for step in patches.brought(kind, operation).member_operations
            )
        case _:
            return False


def _operations(dumped: Sequence[Any], kind: schemas.ResourceType) -> Iterator[patches.Operation]:
    """Read the operations, but for those about what the tenant's schemas no longer have."""
    for operation in dumped:
        with contextlib.suppress(errors.ScimError):
            yield from patches.load([operation], kind)


def _known(values: Iterable[str]) -> list[ids.ResourceId]:
    return [found for found in map(snapshots.resource_id, values) if found is not None]
