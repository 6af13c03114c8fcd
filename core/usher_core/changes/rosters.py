"""The members of a batch's groups, and the groups of those whose leaving it may see.

A unit of work keeps one beside its resources and asks it for everything about members. Who exists, and of
what type, is the unit's to know: it lends `type_of`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping

from usher_core import errors, ids
from usher_core.changes import memberships, snapshots
from usher_core.scim import evaluations, filters, schemas
from usher_core.scim import members as scim_members

Resolved = dict[ids.ResourceId, memberships.Member]
"""Members that were named and are there, by their ids."""

State = tuple[dict[ids.ResourceId, memberships.Membership], dict[ids.ResourceId, set[ids.ResourceId]]]


class Rosters:
    """The memberships of one batch."""

    def __init__(
        self,
        registry: schemas.Registry,
        snapshot: snapshots.Snapshot,
        type_of: Callable[[ids.ResourceId], str | None],
    ) -> None:
        self._registry = registry
        self._snapshot = snapshot
        self._type_of = type_of
        self._memberships: dict[ids.ResourceId, memberships.Membership] = {}
        self._pairs: dict[ids.ResourceId, set[ids.ResourceId]] = {}
        for group, member in snapshot.pairs:
            self._pairs.setdefault(group, set()).add(member)
        self._groups_of = {member: set(groups) for member, groups in snapshot.left.items()}

    def changed(self) -> dict[ids.ResourceId, memberships.Membership]:
        """List the groups whose members are other than the snapshot's, or were said to be."""
        return {
            group: membership
            for group, membership in self._memberships.items()
            if membership.overrides or membership.replaced
        }

    def state(self) -> State:
        """Copy what a create may change."""
        held = {
            group: dataclasses.replace(
                membership, overrides=dict(membership.overrides), left=set(membership.left)
            )
            for group, membership in self._memberships.items()
        }
        return held, {member: set(groups) for member, groups in self._groups_of.items()}

    def return_to(self, state: State) -> None:
        """Undo what happened since the state was copied."""
        self._memberships, self._groups_of = state

    def note_new(self, resource_id: ids.ResourceId) -> None:
        """Note a resource that is in no group yet, and may leave some within this batch."""
        self._groups_of.setdefault(resource_id, set())

    def resolve(self, group: ids.ResourceId, members: Iterable[scim_members.Member]) -> Resolved:
        """Find the members that are named.

        Raises:
            InvalidValue: one is not there, is of a type that can be no member, or is the group itself.
        """
        joinable = scim_members.types(self._registry.by_schema(schemas.GROUP).attributes["members"])
        resolved: Resolved = {}
        for member in members:
            member_id = snapshots.resource_id(member.value)
            kind = None if member_id is None else self._type_of(member_id)
            if member_id is None or kind is None:
                raise errors.InvalidValue(f"members.value: there is no resource with the id {member.value}.")
            if kind not in joinable:
                raise errors.InvalidValue(
                    f"members.value: {member.value} is a {kind}; a member may be a {' or a '.join(joinable)} "
                    "(referenceTypes of members.$ref)."
                )
            if member_id == group:
                # Directories refuse it too, and it would say nothing; circles of several groups are accepted.
                raise errors.InvalidValue("members.value: a group can't be a member of itself.")
            resolved.setdefault(member_id, memberships.Member(member_id, kind, member.display))
        return resolved

    def join(self, group: ids.ResourceId, resolved: Resolved) -> bool:
        """Add members; tells whether anything changed."""
        if not resolved:
            return False
        self._note_joined(group, resolved)
        return self._of(group).add(resolved.values())

    def replace(self, group: ids.ResourceId, resolved: Resolved) -> bool:
        """Make the group hold exactly these members; tells whether anything changed."""
        self._note_joined(group, resolved)
        return self._of(group).replace(resolved)

    def empty(self, group: ids.ResourceId) -> None:
        """Let all members go with their group; how many they are need not be known."""
        membership = self._of(group)
        membership.replaced, membership.overrides = True, {}

    def prepare(
        self, kind: str, group: ids.ResourceId, operations: Iterable[scim_members.MemberOperation]
    ) -> list[Callable[[], bool]]:
        """Check the operations of a PATCH; each step does one of them and tells whether anything changed.

        Raises:
            InvalidValue: as `resolve` does.
            TooMany: a filter selects, or looks at, too many members.
        """
        operations = list(operations)
        selections = snapshots.selections(kind, group, operations)
        selected = {wanted: self._select(selection) for wanted, selection in selections.items()}
        return [self._step(group, operation, selected) for operation in operations]

    def leave_all(self, member: ids.ResourceId) -> list[ids.ResourceId]:
        """Take a member out of all its groups; returns those that lost it."""
        return [group for group in list(self._groups_of[member]) if self._of(group).remove([member])]

    def _step(
        self,
        group: ids.ResourceId,
        operation: scim_members.MemberOperation,
        selected: Mapping[filters.Filter, Collection[ids.ResourceId]],
    ) -> Callable[[], bool]:
        match operation:
            case scim_members.MembersAdded(members):
                resolved = self.resolve(group, members)
                return lambda: self.join(group, resolved)
            case scim_members.MembersReplaced(members):
                resolved = self.resolve(group, members)
                return lambda: self.replace(group, resolved)
            case scim_members.MembersCleared():
                return lambda: self.replace(group, {})
            case scim_members.MembersRemoved(values):
                found = [member for member in map(snapshots.resource_id, values) if member is not None]
                return lambda: bool(self._of(group).remove(found))
            case scim_members.MembersRemovedWhere(wanted):
                return lambda: self._remove_where(group, wanted, selected[wanted])

    def _remove_where(
        self, group: ids.ResourceId, wanted: filters.Filter, selected: Collection[ids.ResourceId]
    ) -> bool:
        membership, test = self._of(group), evaluations.element_test(wanted)
        return bool(membership.remove(membership.select(selected, lambda member: test(_shown(member)))))

    def _select(self, selection: snapshots.Selection) -> Collection[ids.ResourceId]:
        """Look up which of the members that the store has are selected."""
        selected = self._snapshot.selected[selection]
        if selected is None:
            # RFC 7644 §3.12
            raise errors.TooMany(
                "Too many members of the group are to be looked at, or leave at once: use fewer conditions,"
                ' or name those meant, as members[value eq "…"] does.'
            )
        return selected

    def _of(self, group: ids.ResourceId) -> memberships.Membership:
        membership = self._memberships.get(group)
        if membership is None:
            stored = frozenset(self._pairs.get(group, ()))
            is_new = group not in self._snapshot.resources
            count = 0 if is_new else self._snapshot.counted.get(group)
            membership = self._memberships[group] = memberships.Membership(stored, count)
        return membership

    def _note_joined(self, group: ids.ResourceId, joined: Iterable[ids.ResourceId]) -> None:
        # A later deletion in this batch must find the groups that were joined in it.
        for member in joined:
            if member in self._groups_of:
                self._groups_of[member].add(group)


def _shown(member: memberships.Member) -> dict[str, str]:
    """Bring a member to the form that filters are about."""
    shown = {"value": str(member.id), "type": member.type}
    return shown if member.display is None else {**shown, "display": member.display}
