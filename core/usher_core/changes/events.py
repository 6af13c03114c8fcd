"""What became known and when: the events of a tenant, in the order in which it happened.

A unit of work tells one for each change that changed something, and the acceptance of a revocation one for
each thing that it takes away at once. The store numbers them under the tenant's lock; what reads them later
reads by number and misses none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, Literal

from usher_core import ids
from usher_core.changes import policies, records, revocations
from usher_core.scim import messages, schemas

Kind = Literal["create", "put", "patch", "delete", "restore", "revoke", "unrevoke", "asyncresp"]
"""`revoke`: access was taken away at the acceptance of a change whose turn has not come; `unrevoke`: that
change was refused at its turn, so that what it took away is back. The others are those of RFC 9967."""

OF_OPERATION: dict[str, Kind] = {
    "create": "create",
    "replace": "put",
    "patch": "patch",
    "delete": "delete",
    "restore": "restore",
}


METHODS = {"create": "POST", "replace": "PUT", "patch": "PATCH", "delete": "DELETE"}

DEAD = 500
"""The outcome of a change that became a dead letter: of it nobody knows that it won't take effect yet."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One event, without its number: the change behind it, the resource, and its version then."""

    kind: Kind
    change_id: ids.ChangeId
    resource_type: str
    resource_id: ids.ResourceId
    version: int | None = None
    detail: dict[str, Any] | None = None

    def to_row(self) -> dict[str, Any]:
        """Write the event as the store's functions read it."""
        row: dict[str, Any] = {
            "kind": self.kind,
            "change_id": str(self.change_id),
            "resource_type": self.resource_type,
            "resource_id": str(self.resource_id),
        }
        if self.version is not None:
            row["version"] = self.version
        if self.detail is not None:
            row["detail"] = self.detail
        return row


def of_outcome(
    registry: schemas.Registry | None, change: records.Change, outcome: records.Outcome, *, changed: bool
) -> Iterable[Event]:
    """Tell what the turn of a change made known.

    `changed`: whether anything is other than before. `registry` may be `None` for a dead letter: what it took
    away stays away.
    """
    resource_id = outcome.resource_id or change.resource_id
    kind = OF_OPERATION.get(change.operation)
    if changed and kind is not None:
        yield Event(kind, change.change_id, change.resource_type, resource_id, outcome.version)
    if change.promised and not outcome.succeeded and outcome.status != DEAD and registry is not None:
        yield from of_fences(change, revocations.fences(registry, change), "unrevoke")
    if change.told_later and change.operation != "bulk":
        yield _completion(change, outcome)


def _completion(change: records.Change, outcome: records.Outcome) -> Event:
    """Tell the client who was answered 202 what became of its request (RFC 9967 §2.5.1.1)."""
    resource_id = outcome.resource_id or change.resource_id
    told: dict[str, Any] = {"method": METHODS.get(change.operation, ""), "status": str(outcome.status)}
    if change.part_of is not None:
        told["txn"] = f"{change.part_of[0]}:{change.part_of[1]}"
    if outcome.version is not None:
        told["version"] = f'W/"{outcome.version}"'
    if not outcome.succeeded:
        told["response"] = messages.error(outcome.status, outcome.scim_type, outcome.detail or "")
    return Event("asyncresp", change.change_id, change.resource_type, resource_id, outcome.version, told)


def of_fences(
    change: records.Change, fences: Iterable[revocations.Fence], kind: Kind = "revoke"
) -> Iterable[Event]:
    """Tell what is taken away at once, or given back; a member is told with the group it leaves."""
    for fence in fences:
        yield of_fence(change.change_id, fence, kind)


def of_fence(change_id: ids.ChangeId, fence: revocations.Fence, kind: Kind) -> Event:
    """Tell that one thing is taken away, or given back."""
    if fence.group is None:
        return Event(kind, change_id, policies.USERS, fence.subject)
    return Event(kind, change_id, policies.GROUPS, fence.group, detail={"member": str(fence.subject)})
