"""What a batch of changes must know of the store before it is applied, and what was found there.

The worker derives the `Needs` of a batch, the store answers them in one round trip with a `Snapshot`,
and a unit of work applies the changes to it. A question that was never asked is a bug, not a `None`:
looking up what is not in the snapshot raises `KeyError`.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable
from typing import Any, NamedTuple

from usher_core import errors, ids
from usher_core.changes import policies, records, validations
from usher_core.scim import conditions, documents, filters, patches, schemas
from usher_core.scim import members as scim_members


class UniqueKey(NamedTuple):
    """A value that only one living resource of the type may hold."""

    type: str
    path: str
    folded: str


class Selection(NamedTuple):
    """The members of a group that a filter selects.

    `type` is that of the group; `filters` are how many such filters the same change has, with `comparisons`
    in all of them.
    """

    type: str
    group: ids.ResourceId
    filter: filters.Filter
    filters: int
    comparisons: int


@dataclasses.dataclass(frozen=True, slots=True)
class Stored:
    """A resource at one version, without what is stored apart."""

    type: str
    id: ids.ResourceId
    version: int
    document: dict[str, Any]
    created_at: datetime.datetime
    modified_at: datetime.datetime


@dataclasses.dataclass(slots=True)
class Needs:
    """The questions of a batch.

    `resources`: read by id. `owners`: who holds these values. `pairs`: which of these (group, member)
    exist. `targets`: which of these ids exist, and of what type. `counted`: how many members these groups
    have. `left`: in which groups these members are (they may be about to be deleted). `namesakes`: of these
    values who holds them, as they are, for a create may revive them. `deleted`: what is left of these.
    `selections`: which members these are.
    """

    resources: set[ids.ResourceId] = dataclasses.field(default_factory=set)
    owners: set[UniqueKey] = dataclasses.field(default_factory=set)
    pairs: set[tuple[ids.ResourceId, ids.ResourceId]] = dataclasses.field(default_factory=set)
    targets: set[ids.ResourceId] = dataclasses.field(default_factory=set)
    counted: set[ids.ResourceId] = dataclasses.field(default_factory=set)
    left: set[ids.ResourceId] = dataclasses.field(default_factory=set)
    namesakes: set[UniqueKey] = dataclasses.field(default_factory=set)
    deleted: set[ids.ResourceId] = dataclasses.field(default_factory=set)
    selections: set[Selection] = dataclasses.field(default_factory=set)
    takers: dict[UniqueKey, set[ids.ResourceId]] = dataclasses.field(default_factory=dict)
    """No question: which resources would take a value within the batch, if their changes succeed."""


@dataclasses.dataclass(slots=True)
class Snapshot:
    """The answers to `Needs`, read under the tenant's lock at the moment `now`."""

    now: datetime.datetime
    applied: dict[ids.ChangeId, records.Outcome] = dataclasses.field(default_factory=dict)
    resources: dict[ids.ResourceId, Stored] = dataclasses.field(default_factory=dict)
    owners: dict[UniqueKey, ids.ResourceId | None] = dataclasses.field(default_factory=dict)
    pairs: set[tuple[ids.ResourceId, ids.ResourceId]] = dataclasses.field(default_factory=set)
    targets: dict[ids.ResourceId, str] = dataclasses.field(default_factory=dict)
    counted: dict[ids.ResourceId, int] = dataclasses.field(default_factory=dict)
    left: dict[ids.ResourceId, set[ids.ResourceId]] = dataclasses.field(default_factory=dict)
    deleted: dict[ids.ResourceId, Stored] = dataclasses.field(default_factory=dict)
    selected: dict[Selection, list[ids.ResourceId] | None] = dataclasses.field(default_factory=dict)
    """By selection; `None` where it is too much. Those selected are among the pairs."""
    policy: policies.Policy = dataclasses.field(default_factory=policies.Policy)
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    """The tenant's configuration as it is stored, which the policy was read from."""


def unique_keys(resource_type: schemas.ResourceType, document: dict[str, Any]) -> list[UniqueKey]:
    """List the values of a document that must be unique among resources of its type."""
    return [
        UniqueKey(resource_type.name, path, folded)
        for path, folded in documents.unique_values(resource_type, document)
    ]


def name_key(
    resource_type: schemas.ResourceType, document: dict[str, Any], keys: Iterable[UniqueKey]
) -> UniqueKey | None:
    """Pick the name by which a create may find an inactive user again; `None` when it names no such user."""
    if resource_type.name != policies.USERS or not document.get("externalId"):
        return None
    return next((key for key in keys if key.path == "userName"), None)


def ask(asked: Needs, registry: schemas.Registry, change: records.Change) -> None:
    """Add what applying the change, in any state of the store, could have to know."""
    try:
        change = validations.renewed(change, registry)
    except errors.ScimError:
        return  # its turn will refuse it, whatever there is
    resource_type = registry.by_name(change.resource_type)
    # A create finds no resource; if it was applied before, the store reads what it made.
    if change.operation != "create":
        asked.resources.add(change.resource_id)
    match change.operation:
        case "delete":
            asked.left.add(change.resource_id)
        case "patch":
            _ask_for_patch(asked, resource_type, change)
        case "restore":
            asked.deleted.add(change.resource_id)
            asked.owners.update(unique_keys(resource_type, change.body))
        case "create" | "replace":
            _ask_for_values(asked, resource_type, change)
            _, members = documents.split_members(resource_type, change.body)
            if members is not None:
                _ask_for_members(asked, change.resource_id, (member.value for member in members))
                if change.operation == "replace":
                    asked.counted.add(change.resource_id)


def _ask_for_values(asked: Needs, resource_type: schemas.ResourceType, change: records.Change) -> None:
    wanted = unique_keys(resource_type, change.body)
    asked.owners.update(wanted)
    if change.operation == "replace":
        _note_taker(asked, change.resource_id, wanted)
        return
    key = name_key(resource_type, change.body, wanted)
    if key is not None:
        asked.namesakes.add(key)
        # Whoever has taken the name by then, earlier in this batch, may be the one that is revived.
        asked.left.update(asked.takers.get(key, ()))


def _note_taker(asked: Needs, resource_id: ids.ResourceId, wanted: Iterable[UniqueKey]) -> None:
    for key in wanted:
        asked.takers.setdefault(key, set()).add(resource_id)


def _ask_for_patch(asked: Needs, resource_type: schemas.ResourceType, change: records.Change) -> None:
    operations = patches.load(change.body, resource_type)
    on_members: list[scim_members.MemberOperation] = []
    for operation in operations:
        # Whether it will bring them depends on the resource, which nobody has read yet.
        brought = patches.brought(resource_type, operation)
        wanted = unique_keys(resource_type, brought.document)
        asked.owners.update(wanted)
        _note_taker(asked, change.resource_id, wanted)
        on_members += brought.member_operations
        for member_operation in brought.member_operations:
            match member_operation:
                case scim_members.MembersAdded(members) | scim_members.MembersReplaced(members):
                    _ask_for_members(asked, change.resource_id, (member.value for member in members))
                case scim_members.MembersRemoved(values):
                    _ask_for_members(asked, change.resource_id, values)
                case _:
                    pass
            if isinstance(member_operation, scim_members.MembersReplaced | scim_members.MembersCleared):
                asked.counted.add(change.resource_id)
    asked.selections.update(selections(resource_type.name, change.resource_id, on_members).values())


def selections(
    kind: str, group: ids.ResourceId, operations: Iterable[scim_members.MemberOperation]
) -> dict[filters.Filter, Selection]:
    """List by filter what the operations of one change select among the members of a group."""
    wanted = [one.filter for one in operations if isinstance(one, scim_members.MembersRemovedWhere)]
    comparisons = sum(map(conditions.size, wanted))
    return {one: Selection(kind, group, one, len(wanted), comparisons) for one in wanted}


def _ask_for_members(asked: Needs, group: ids.ResourceId, values: Iterable[str]) -> None:
    for value in values:
        member = resource_id(value)
        if member is not None:
            asked.pairs.add((group, member))
            asked.targets.add(member)


def resource_id(value: str) -> ids.ResourceId | None:
    """Read a resource's id as we write it; `None` for anything that can be no id of ours."""
    try:
        return ids.ResourceId(uuid.UUID(value))
    except ValueError:
        return None


NO_RESOURCE = ids.ResourceId(uuid.UUID(int=0))
"""An id that no resource ever has."""
