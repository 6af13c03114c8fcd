"""A store in memory: it answers the needs of a batch as PostgreSQL would, and keeps what the batch writes.

For tests of what changes mean, thousands of them a second. What it holds is never changed in place, so a copy
is cheap. It knows one tenant and no time: each batch says when it happens.
"""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Iterable, Sequence

from usher_core import ids
from usher_core.changes import memberships, policies, records, snapshots, units
from usher_core.scim import evaluations, schemas

Members = dict[ids.ResourceId, memberships.Member]


@dataclasses.dataclass(slots=True)
class Store:
    """What a tenant has: resources, the members of its groups, deleted users, and outcomes by change."""

    registry: schemas.Registry
    policy: policies.Policy = dataclasses.field(default_factory=policies.Policy)
    resources: dict[ids.ResourceId, snapshots.Stored] = dataclasses.field(default_factory=dict)
    members: dict[ids.ResourceId, Members] = dataclasses.field(default_factory=dict)
    deleted: dict[ids.ResourceId, snapshots.Stored] = dataclasses.field(default_factory=dict)
    outcomes: dict[ids.ChangeId, records.Outcome] = dataclasses.field(default_factory=dict)

    def copy(self) -> Store:
        """Make another store that holds the same."""
        return dataclasses.replace(
            self,
            resources=dict(self.resources),
            members={group: dict(held) for group, held in self.members.items()},
            deleted=dict(self.deleted),
            outcomes=dict(self.outcomes),
        )

    def apply(self, changes: Sequence[records.Change], now: datetime.datetime) -> list[records.Outcome]:
        """Apply changes as one batch, and keep what they write."""
        unit = units.Unit(self.registry, self.answer(changes, now))
        outcomes = [unit.apply(change) for change in changes]
        self._keep(unit.writes())
        return outcomes

    def answer(self, changes: Iterable[records.Change], now: datetime.datetime) -> snapshots.Snapshot:
        """Answer what applying the changes must know, and nothing else."""
        needs = snapshots.Needs()
        applied = {}
        for change in changes:
            snapshots.ask(needs, self.registry, change)
            if change.change_id in self.outcomes:
                applied[change.change_id] = self.outcomes[change.change_id]
        holders = self._holders()
        namesakes = {holders[key] for key in needs.namesakes if key in holders}
        found = {one for one in needs.resources | namesakes if one in self.resources}
        snapshot = snapshots.Snapshot(
            now,
            applied=applied,
            resources={one: self.resources[one] for one in found},
            owners={key: holders.get(key) for key in needs.owners},
            pairs={(group, member) for group, member in needs.pairs if member in self.members.get(group, {})},
            targets={one: self.resources[one].type for one in needs.targets if one in self.resources},
            counted={group: len(self.members.get(group, {})) for group in needs.counted},
            deleted={one: self.deleted[one] for one in needs.deleted if one in self.deleted},
            policy=self.policy,
        )
        for selection in needs.selections:
            snapshot.selected[selection] = selected = self._select(selection)
            snapshot.pairs |= {(selection.group, member) for member in selected}
        for member in needs.left | self._possibly_inactive(namesakes, needs):
            groups = {group for group, held in self.members.items() if member in held}
            snapshot.left[member] = groups
            snapshot.pairs |= {(group, member) for group in groups}
            snapshot.resources |= {group: self.resources[group] for group in groups}
        return snapshot

    def _holders(self) -> dict[snapshots.UniqueKey, ids.ResourceId]:
        return {
            key: one.id
            for one in self.resources.values()
            for key in snapshots.unique_keys(self.registry.by_name(one.type), one.document)
        }

    def _possibly_inactive(
        self, namesakes: set[ids.ResourceId], needs: snapshots.Needs
    ) -> set[ids.ResourceId]:
        """List the namesakes that are inactive, or may be by their turn."""
        return {
            one
            for one in namesakes
            if self.resources[one].document.get("active") is not True or one in needs.resources
        }

    def _select(self, selection: snapshots.Selection) -> list[ids.ResourceId]:
        test = evaluations.element_test(selection.filter)
        members = self.members.get(selection.group, {}).values()
        return [
            one.id
            for one in members
            if test({"value": str(one.id), "type": one.type, "display": one.display})
        ]

    def _keep(self, writes: units.Writes) -> None:
        for gone in writes.deleted:
            del self.resources[gone.id]
            self.members.pop(gone.id, None)
        for stored in (*writes.inserted, *writes.updated):
            self.resources[stored.id] = stored
        for group, membership in writes.memberships.items():
            if group in self.resources:
                held = {} if membership.replaced else self.members.get(group, {})
                joined = held | membership.overrides
                self.members[group] = {one: member for one, member in joined.items() if member is not None}
        for restored in writes.restored:
            del self.deleted[restored.id]
        self.deleted |= {kept.id: kept for kept in writes.retained}
        self.outcomes |= {logged.change.change_id: logged.outcome for logged in writes.logged}
