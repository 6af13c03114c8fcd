"""The members of one group while a batch is applied: only what the batch mentions, never all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping

from usher_core import ids


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """A member as it is stored: what it is, and the name the client gave it."""

    id: ids.ResourceId
    type: str
    display: str | None


@dataclasses.dataclass(slots=True)
class Membership:
    """The members of a group as the batch sees them.

    `stored` holds those of the mentioned members that the store has; `count` is how many it has in all,
    known only when a change of the batch needs it. After `replace` nothing stored counts any more. `left` are
    those of the stored ones that left at some time: who came back since is another member, with another name.
    """

    stored: frozenset[ids.ResourceId]
    count: int | None
    replaced: bool = False
    overrides: dict[ids.ResourceId, Member | None] = dataclasses.field(default_factory=dict)
    left: set[ids.ResourceId] = dataclasses.field(default_factory=set)

    def has(self, member: ids.ResourceId) -> bool:
        """Tell whether the member is in the group now."""
        if member in self.overrides:
            return self.overrides[member] is not None
        return not self.replaced and member in self.stored

    def add(self, members: Collection[Member]) -> bool:
        """Add members; those that are in the group already stay as they are. Tells if anything changed."""
        fresh = [member for member in members if not self.has(member.id)]
        self.overrides.update((member.id, member) for member in fresh)
        return bool(fresh)

    def remove(self, members: Collection[ids.ResourceId]) -> list[ids.ResourceId]:
        """Remove members and return those that were in the group."""
        gone = [member for member in members if self.has(member)]
        self.overrides.update(dict.fromkeys(gone))
        self.left.update(self.stored.intersection(gone))
        return gone

    def replace(self, members: Mapping[ids.ResourceId, Member]) -> bool:
        """Make the group hold exactly these members. Tells if anything changed."""
        if self._size() == len(members) and all(self.has(member) for member in members):
            return False
        self.replaced = True
        self.left |= self.stored - members.keys()
        self.overrides = dict(members)
        return True

    def select(
        self, among_stored: Collection[ids.ResourceId], test: Callable[[Member], bool]
    ) -> list[ids.ResourceId]:
        """List the members that a test selects, given which ones of those that the store has."""
        found = [member for member in among_stored if member not in self.left and self.has(member)]
        return found + [
            member.id
            for member in self.overrides.values()
            if member is not None and not self._is_stored(member.id) and test(member)
        ]

    def _is_stored(self, member: ids.ResourceId) -> bool:
        """Whether the row that the store has is the member's, whatever name was given for it since."""
        return member in self.stored and member not in self.left

    def _size(self) -> int:
        present = sum(member is not None for member in self.overrides.values())
        if self.replaced:
            return present
        if self.count is None:
            raise KeyError("the group's members were not counted")
        overridden = sum(member in self.stored for member in self.overrides)
        return self.count - overridden + present
