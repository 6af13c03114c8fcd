"""The members of one group while a batch is applied: only what the batch mentions, never all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

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
    known only when a change of the batch needs it. After `replace` nothing stored counts any more.
    """

    stored: frozenset[ids.ResourceId]
    count: int | None
    replaced: bool = False
    overrides: dict[ids.ResourceId, Member | None] = dataclasses.field(default_factory=dict)

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
        return gone

    def replace(self, members: Mapping[ids.ResourceId, Member]) -> bool:
        """Make the group hold exactly these members. Tells if anything changed."""
        if self._size() == len(members) and all(self.has(member) for member in members):
            return False
        self.replaced = True
        self.overrides = dict(members)
        return True

    def _size(self) -> int:
        present = sum(member is not None for member in self.overrides.values())
        if self.replaced:
            return present
        if self.count is None:
            raise KeyError("the group's members were not counted")
        overridden = sum(member in self.stored for member in self.overrides)
        return self.count - overridden + present
