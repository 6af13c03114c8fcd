"""The unit of work: applies the changes of one batch, in order, to a snapshot of the store.

The worker makes one a batch. While the tenant's lock is held no one else writes, so every 404, 409 and
412, and each 403 that depends on what a user is by then, is decided here, in memory. A change either has
its whole effect or none; what one change did, the next one sees. `writes` then tells the difference between
the snapshot and the end.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from usher_core import errors, ids
from usher_core.changes import memberships, policies, records, rosters, snapshots, validations
from usher_core.scim import documents, patches, schemas
from usher_core.scim import members as scim_members


@dataclasses.dataclass(frozen=True, slots=True)
class Logged:
    """A change and what became of it, for the change log and the events; whether it changed anything."""

    change: records.Change
    outcome: records.Outcome
    changed: bool = False


@dataclasses.dataclass(slots=True)
class Writes:
    """What must be written so that the store shows the batch's effect.

    `removed` values go before `added` ones: a value that one resource gives up another may take. `restored`
    are no longer kept as deleted, `retained` are from now on; restored ones go first.
    """

    inserted: list[snapshots.Stored] = dataclasses.field(default_factory=list)
    updated: list[snapshots.Stored] = dataclasses.field(default_factory=list)
    deleted: list[snapshots.Stored] = dataclasses.field(default_factory=list)
    before: dict[ids.ResourceId, snapshots.Stored] = dataclasses.field(default_factory=dict)
    memberships: dict[ids.ResourceId, memberships.Membership] = dataclasses.field(default_factory=dict)
    restored: list[snapshots.Stored] = dataclasses.field(default_factory=list)
    retained: list[snapshots.Stored] = dataclasses.field(default_factory=list)
    logged: list[Logged] = dataclasses.field(default_factory=list)


class NoneCreated(errors.UsherError):
    """Of resources that refer to each other one can't be created: `change`, whose outcome says why."""

    def __init__(self, change: records.Change, reason: errors.ScimError) -> None:
        super().__init__(reason.detail)
        self.change = change
        self.outcome = _refusal(change, reason)


class Unit:
    """Applies changes one after another and keeps the account."""

    def __init__(self, registry: schemas.Registry, snapshot: snapshots.Snapshot) -> None:
        self._registry = registry
        self._snapshot = snapshot
        self._policy = snapshot.policy
        self._now = snapshot.now
        self._resources: dict[ids.ResourceId, snapshots.Stored | None] = dict(snapshot.resources)
        self._owners = dict(snapshot.owners)
        self._rosters = rosters.Rosters(registry, snapshot, self._type_of)
        self._deleted: dict[ids.ResourceId, snapshots.Stored | None] = dict(snapshot.deleted)
        self._logged: list[Logged] = []

    def apply(self, change: records.Change) -> records.Outcome:
        """Apply one change and return its outcome; a redelivered one gets the outcome it had.

        Anything raised from here is a fault of ours: the client's mistakes are outcomes.
        """
        before = self._snapshot.applied.get(change.change_id)
        if before is not None:
            return self._as_it_stands(before, change)
        held = self._resources.get(change.resource_id)
        try:
            outcome = self._perform(change)
        except errors.ScimError as exc:
            outcome = _refusal(change, exc)
        # A create that revived a user is about another id than its own.
        changed = outcome.resource_id is not None or self._resources.get(change.resource_id) is not held
        self._logged.append(Logged(change, outcome, changed))
        return outcome

    def recall(self, change: records.Change) -> records.Outcome | None:
        """Return the outcome that a redelivered change had, as it was then; `None` for any other change."""
        return self._snapshot.applied.get(change.change_id)

    def note(self, change: records.Change, outcome: records.Outcome) -> records.Outcome:
        """Log an outcome that was decided elsewhere; a redelivered change keeps the one it had."""
        before = self.recall(change)
        if before is None:
            self._logged.append(Logged(change, outcome))
        return before or outcome

    def create_together(self, changes: Sequence[records.Change]) -> list[records.Outcome]:
        """Create resources that refer to each other: first each without its members, then these.

        None of the changes was applied before.

        Raises:
            NoneCreated: one of them can't be created, so nothing was; nothing is logged either.
        """
        before = self._state()
        try:
            outcomes = self._create_bare(changes)
            names = {
                change.resource_id: outcome.resource_id
                for change, outcome in zip(changes, outcomes, strict=True)
                if outcome.resource_id is not None
            }
            if names:
                # Some were there already and are revived: they are referred to by the ids they have.
                self._return_to(before)
                before = self._state()
                changes = [change.renamed(names) for change in changes]
                outcomes = self._create_bare(changes)
            self._join_all(changes)
        except NoneCreated:
            self._return_to(before)
            raise
        self._logged += [
            Logged(change, outcome, changed=True) for change, outcome in zip(changes, outcomes, strict=True)
        ]
        return outcomes

    def _create_bare(self, changes: Sequence[records.Change]) -> list[records.Outcome]:
        outcomes = []
        for change in changes:
            try:
                resource_type, document, _ = self._split(change)
                outcomes.append(self._create(resource_type, dataclasses.replace(change, body=document)))
            except errors.ScimError as exc:
                raise NoneCreated(change, exc) from exc
        return outcomes

    def _join_all(self, changes: Sequence[records.Change]) -> None:
        for change in changes:
            try:
                _, _, members = self._split(change)
                resolved = self._rosters.resolve(change.resource_id, members or ())
                self._rosters.join(change.resource_id, resolved)
            except errors.ScimError as exc:
                raise NoneCreated(change, exc) from exc

    def _split(
        self, change: records.Change
    ) -> tuple[schemas.ResourceType, dict[str, Any], tuple[scim_members.Member, ...] | None]:
        """Take the members out of what a change creates."""
        renewed = self._renewed(change)
        resource_type = self._registry.by_name(renewed.resource_type)
        return resource_type, *documents.split_members(resource_type, renewed.body)

    def _state(self) -> tuple[Any, ...]:
        """Copy all that a create may change."""
        return dict(self._resources), dict(self._owners), self._rosters.state()

    def _return_to(self, state: tuple[Any, ...]) -> None:
        self._resources, self._owners, members = state
        self._rosters.return_to(members)

    def writes(self) -> Writes:
        """Compare the end with the snapshot."""
        result = Writes(logged=self._logged)
        for resource_id, after in self._resources.items():
            before = self._snapshot.resources.get(resource_id)
            if after is before:
                continue
            if before is not None:
                result.before[resource_id] = before
            if after is None:
                if before is not None:
                    result.deleted.append(before)
            elif before is None:
                result.inserted.append(after)
            else:
                result.updated.append(after)
        gone = {resource_id for resource_id, after in self._resources.items() if after is None}
        result.memberships = {
            group: membership
            for group, membership in self._rosters.changed().items()
            if not (group in gone and group not in result.before)
        }
        for resource_id, left in self._deleted.items():
            kept = self._snapshot.deleted.get(resource_id)
            if left is not kept:
                result.restored += [] if kept is None else [kept]
                result.retained += [] if left is None else [left]
        return result

    # What each operation does. Every check stands before the first effect.

    def _renewed(self, change: records.Change) -> records.Change:
        return validations.renewed(change, self._registry, ignore_unknown=self._policy.ignore_unknown)

    def _perform(self, change: records.Change) -> records.Outcome:
        change = self._renewed(change)
        resource_type = self._registry.by_name(change.resource_type)
        match change.operation:
            case "create":
                return self._create(resource_type, change)
            case "replace":
                return self._replace(resource_type, change)
            case "patch":
                return self._patch(resource_type, change)
            case "delete":
                return self._delete(resource_type, change)
            case "restore":
                return self._restore(resource_type, change)
            case _:
                raise AssertionError(change.operation)  # these are applied by others

    def _create(self, resource_type: schemas.ResourceType, change: records.Change) -> records.Outcome:
        document, members = documents.split_members(resource_type, change.body)
        document = documents.with_active(resource_type, document)
        try:
            self._require_free(resource_type, document, None)
        except errors.UniquenessViolated:
            namesake = self._find_inactive(resource_type, document)
            if namesake is None:
                raise
            return self._revive(resource_type, change, namesake, document)
        resolved = self._rosters.resolve(change.resource_id, members) if members else {}
        stored = snapshots.Stored(resource_type.name, change.resource_id, 1, document, self._now, self._now)
        self._hold(resource_type, stored, None)
        self._rosters.note_new(stored.id)
        self._rosters.join(stored.id, resolved)
        return _outcome(change, 201, stored)

    def _find_inactive(
        self, resource_type: schemas.ResourceType, document: dict[str, Any]
    ) -> snapshots.Stored | None:
        """Find the inactive user with the userName and the externalId of a document, if it may be revived."""
        keys = snapshots.unique_keys(resource_type, document)
        key = snapshots.name_key(resource_type, document, keys) if self._policy.revive_inactive else None
        holder = None if key is None else self._owners[key]
        found = None if holder is None else self._resources[holder]
        # Whose `active` a PATCH removed is not active either.
        if found is None or found.document.get("active") is True:
            return None
        return found if found.document.get("externalId") == document["externalId"] else None

    def _revive(
        self,
        resource_type: schemas.ResourceType,
        change: records.Change,
        current: snapshots.Stored,
        document: dict[str, Any],
    ) -> records.Outcome:
        # Okta creates again whom it deactivated: the same user, and none of what it could do before.
        self._require_free(resource_type, document, current)
        self._leave_groups(current.id)
        stored = self._revise(resource_type, current, document, touched=True)
        return dataclasses.replace(_outcome(change, 201, stored), resource_id=stored.id)

    def _replace(self, resource_type: schemas.ResourceType, change: records.Change) -> records.Outcome:
        current = self._current(resource_type, change)
        document, members = documents.split_members(resource_type, change.body)
        document = documents.with_active(resource_type, document, current.document)
        documents.refuse_immutable(resource_type, current.document, document)
        self._policy.admit_change(resource_type.name, current.document, document)
        self._require_free(resource_type, document, current)
        changed = False
        if members is not None:
            changed = self._rosters.replace(current.id, self._rosters.resolve(current.id, members))
        return _outcome(change, 200, self._revise(resource_type, current, document, touched=changed))

    def _patch(self, resource_type: schemas.ResourceType, change: records.Change) -> records.Outcome:
        current = self._current(resource_type, change)
        operations = patches.load(change.body, resource_type)
        patched = patches.apply(resource_type, current.document, operations)
        self._policy.admit_change(resource_type.name, current.document, patched.document)
        self._require_free(resource_type, patched.document, current)
        steps = self._rosters.prepare(resource_type.name, current.id, patched.member_operations)
        changed = False
        for step in steps:
            changed = step() or changed
        stored = self._revise(resource_type, current, patched.document, touched=changed)
        return _outcome(change, 200, stored)

    def _delete(self, resource_type: schemas.ResourceType, change: records.Change) -> records.Outcome:
        current = self._current(resource_type, change)
        self._leave_groups(current.id)
        if resource_type.stored_apart:
            self._rosters.empty(current.id)
        for key in snapshots.unique_keys(resource_type, current.document):
            self._owners[key] = None
        self._resources[current.id] = None
        if self._policy.keep_deleted and resource_type.name == policies.USERS:
            self._deleted[current.id] = current
        return records.Outcome(change.change_id, 204)

    def _restore(self, resource_type: schemas.ResourceType, change: records.Change) -> records.Outcome:
        left = self._deleted.get(change.resource_id)
        if left is None or left.type != resource_type.name:
            raise errors.NotFound(
                f"There is no deleted {resource_type.name} with the id {change.resource_id}."
            )
        if left.document != change.body:
            raise errors.PreconditionFailed(
                f"The {resource_type.name} was restored and deleted again meanwhile. Look, then try again."
            )
        # It was deleted under whatever schemas there were then.
        document = documents.normalise(resource_type, left.document)
        self._require_free(resource_type, document, None)
        stored = dataclasses.replace(left, document=document, version=left.version + 1, modified_at=self._now)
        self._hold(resource_type, stored, None)
        self._rosters.note_new(stored.id)
        self._deleted[stored.id] = None
        return _outcome(change, 200, stored)

    # Resources and their unique values.

    def _current(self, resource_type: schemas.ResourceType, change: records.Change) -> snapshots.Stored:
        stored = self._resources.get(change.resource_id)
        if stored is None or stored.type != resource_type.name:
            raise errors.NotFound(f"There is no {resource_type.name} with the id {change.resource_id}.")
        if change.if_match is not None and stored.version not in change.if_match:
            # RFC 7644 §3.14
            raise errors.PreconditionFailed(
                f'The {resource_type.name} is at version W/"{stored.version}", which If-Match does not name.'
            )
        return stored

    def _require_free(
        self,
        resource_type: schemas.ResourceType,
        document: dict[str, Any],
        current: snapshots.Stored | None,
    ) -> None:
        wanted = snapshots.unique_keys(resource_type, document)
        held = [] if current is None else snapshots.unique_keys(resource_type, current.document)
        for key in wanted:
            if key not in held and self._owners[key] is not None:
                # RFC 7644 §3.3: 409 with scimType uniqueness
                path = documents.path_of_space(key.path)
                raise errors.UniquenessViolated(
                    f"The value of {path} is taken by another {resource_type.name}."
                )

    def _hold(
        self,
        resource_type: schemas.ResourceType,
        stored: snapshots.Stored,
        before: snapshots.Stored | None,
    ) -> None:
        if before is not None:
            for key in snapshots.unique_keys(resource_type, before.document):
                self._owners[key] = None
        for key in snapshots.unique_keys(resource_type, stored.document):
            self._owners[key] = stored.id
        self._resources[stored.id] = stored

    def _revise(
        self,
        resource_type: schemas.ResourceType,
        current: snapshots.Stored,
        document: dict[str, Any],
        *,
        touched: bool,
    ) -> snapshots.Stored:
        if document == current.document and not touched:
            return current  # nothing changed: same version, same lastModified
        stored = dataclasses.replace(
            current, document=document, version=current.version + 1, modified_at=self._now
        )
        self._hold(resource_type, stored, current)
        return stored

    def _bump(self, group: ids.ResourceId) -> None:
        stored = self._resources[group]
        if stored is not None:
            self._resources[group] = dataclasses.replace(
                stored, version=stored.version + 1, modified_at=self._now
            )

    def _type_of(self, resource_id: ids.ResourceId) -> str | None:
        if resource_id in self._resources:
            stored = self._resources[resource_id]
            return None if stored is None else stored.type
        return self._snapshot.targets.get(resource_id)

    def _leave_groups(self, member: ids.ResourceId) -> None:
        for group in self._rosters.leave_all(member):
            self._bump(group)

    def _as_it_stands(self, before: records.Outcome, change: records.Change) -> records.Outcome:
        stored = self._resources.get(before.resource_id or change.resource_id)
        if not before.succeeded or stored is None:
            return before
        return dataclasses.replace(
            before,
            version=stored.version,
            created_at=stored.created_at,
            modified_at=stored.modified_at,
            document=stored.document,
        )


def _refusal(change: records.Change, reason: errors.ScimError) -> records.Outcome:
    return records.Outcome(change.change_id, reason.status, reason.scim_type, reason.detail)


def _outcome(change: records.Change, status: int, stored: snapshots.Stored) -> records.Outcome:
    return records.Outcome(
        change.change_id,
        status,
        version=stored.version,
        created_at=stored.created_at,
        modified_at=stored.modified_at,
        document=stored.document,
    )
