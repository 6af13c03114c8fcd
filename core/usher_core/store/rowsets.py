"""What a batch asks of the store, is answered, and writes, as JSON; called by `batches`, pure.

One JSON parameter holds the rows of all tables, another the questions; `migrations/versions/0001_batches.sql`
reads both. A table without rows is left out.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

from usher_core import ids
from usher_core.changes import events, policies, records, snapshots, units
from usher_core.scim import documents, schemas
from usher_core.store import foldings

Row = dict[str, Any]


def questions(
    registry: schemas.Registry | None, changes: Iterable[records.Change], needs: snapshots.Needs
) -> dict[str, list[Row]]:
    """Write the needs of a batch as the parameter of `usher_read_batch`."""
    kinds = [] if registry is None else [resource_type.name for resource_type in registry.resource_types]
    asked = {
        "applied": [{"accepted_at": one.accepted_at, "change_id": str(one.change_id)} for one in changes],
        "resources": _of_any_type(kinds, needs.resources),
        "owners": [_owner(key, needs) for key in needs.owners],
        "pairs": [{"group_id": str(group), "member_id": str(member)} for group, member in needs.pairs],
        "targets": _of_any_type(kinds, needs.targets),
        "counted": [{"id": str(group)} for group in needs.counted],
        "left": [{"id": str(member)} for member in needs.left],
        "deleted": _of_any_type(kinds, needs.deleted),
    }
    return {name: rows for name, rows in asked.items() if rows}


def _owner(key: snapshots.UniqueKey, needs: snapshots.Needs) -> Row:
    row: Row = key._asdict()
    if key in needs.namesakes:
        row["namesake"] = True
    return row


def _of_any_type(kinds: list[str], wanted: Iterable[ids.ResourceId]) -> list[Row]:
    return [{"type": kind, "id": str(one)} for one in wanted for kind in kinds]


def snapshot(needs: snapshots.Needs, answers: dict[str, Any]) -> snapshots.Snapshot:
    """Read the answer of `usher_read_batch`."""
    found = snapshots.Snapshot(now=moment(answers["now"]))
    found.config = answers["config"] or {}
    found.policy = policies.from_document(found.config)
    for change_id, status, scim_type, detail, version, about in answers.get("applied") or ():
        key = ids.ChangeId(uuid.UUID(change_id))
        found.applied[key] = records.Outcome(
            key, status, scim_type, detail, version, resource_id=_resource_id(about)
        )
    for row in answers.get("resources") or ():
        stored = _stored(row)
        found.resources[stored.id] = stored
    found.owners = dict.fromkeys(needs.owners)
    for kind, path, folded, holder in answers.get("owners") or ():
        found.owners[snapshots.UniqueKey(kind, path, folded)] = _resource_id(holder)
    found.pairs = {(_resource_id(group), _resource_id(one)) for group, one in answers.get("pairs") or ()}
    found.targets = {_resource_id(one): kind for one, kind in answers.get("targets") or ()}
    found.counted = {_resource_id(group): count for group, count in answers.get("counted") or ()}
    for row in answers.get("deleted") or ():
        stored = _stored(row)
        found.deleted[stored.id] = stored
    found.left = {member: set() for member in needs.left}
    for member, *row in answers.get("left") or ():
        _note_group(found, _resource_id(member), row)
    for row in answers.get("namesakes") or ():
        stored = _stored(row)
        found.resources.setdefault(stored.id, stored)
    for member, groups in answers.get("namesakes_left") or ():
        found.left.setdefault(_resource_id(member), set())
        for row in groups:
            _note_group(found, _resource_id(member), row)
    return found


def _note_group(found: snapshots.Snapshot, member: ids.ResourceId, row: list[Any]) -> None:
    group = _stored(row)
    found.left[member].add(group.id)
    found.pairs.add((group.id, member))
    found.resources.setdefault(group.id, group)


def _stored(row: list[Any]) -> snapshots.Stored:
    kind, resource_id, version, document, created_at, modified_at = row
    return snapshots.Stored(
        kind, _resource_id(resource_id), version, document, moment(created_at), moment(modified_at)
    )


def _resource_id(text: str) -> ids.ResourceId:
    return ids.ResourceId(uuid.UUID(text))


def moment(text: str) -> datetime.datetime:
    """Read a moment as PostgreSQL writes it in JSON."""
    return datetime.datetime.fromisoformat(text)


@dataclasses.dataclass(slots=True)
class _Rows:
    """The rows to delete and insert, by table."""

    inserted: list[Row] = dataclasses.field(default_factory=list)
    updated: list[Row] = dataclasses.field(default_factory=list)
    deleted: list[Row] = dataclasses.field(default_factory=list)
    unique_removed: list[Row] = dataclasses.field(default_factory=list)
    unique_added: list[Row] = dataclasses.field(default_factory=list)
    lookup_removed: list[Row] = dataclasses.field(default_factory=list)
    lookup_added: list[Row] = dataclasses.field(default_factory=list)
    cleared: list[Row] = dataclasses.field(default_factory=list)
    kept: list[Row] = dataclasses.field(default_factory=list)
    left: list[Row] = dataclasses.field(default_factory=list)
    joined: list[Row] = dataclasses.field(default_factory=list)
    totals: list[Row] = dataclasses.field(default_factory=list)
    logged: list[Row] = dataclasses.field(default_factory=list)
    events: list[Row] = dataclasses.field(default_factory=list)
    settled: list[Row] = dataclasses.field(default_factory=list)

    def as_parameter(self) -> dict[str, list[Row]]:
        """Leave out what is empty, but for the kept members: those of a cleared group may be none."""
        return {
            name: rows
            for name in _TABLES
            if (rows := getattr(self, name)) or (name == "kept" and self.cleared)
        }


_TABLES = tuple(field.name for field in dataclasses.fields(_Rows))


def kept(resources: Iterable[snapshots.Stored]) -> list[Row]:
    """List what is kept of deleted resources, as rows of `deleted_resources`."""
    return [
        {
            "type": stored.type,
            "id": str(stored.id),
            "version": stored.version,
            "document": stored.document,
            "created_at": stored.created_at,
            "modified_at": stored.modified_at,
        }
        for stored in resources
    ]


def derive(
    registry: schemas.Registry | None, writes: units.Writes, positions: Mapping[ids.ChangeId, str]
) -> dict[str, list[Row]]:
    """List what a batch writes, as the parameter of `usher_write_batch`.

    `registry` may be `None` when the batch touched no resource.
    """
    rows = _Rows()
    differences: dict[str, int] = {}
    if registry is not None:
        for stored in writes.inserted:
            resource_type = registry.by_name(stored.type)
            values = documents.lookup_values(resource_type, stored.document)
            rows.inserted.append(_resource(stored, values) | {"created_at": stored.created_at})
            rows.unique_added += _unique(resource_type, stored)
            rows.lookup_added += _lookups(stored, values)
            differences[stored.type] = differences.get(stored.type, 0) + 1
        for stored in writes.updated:
            _update(rows, registry.by_name(stored.type), writes.before[stored.id], stored)
        for stored in writes.deleted:
            resource_type = registry.by_name(stored.type)
            rows.deleted.append({"type": stored.type, "id": str(stored.id)})
            rows.unique_removed += _unique(resource_type, stored)
            values = documents.lookup_values(resource_type, stored.document)
            rows.lookup_removed += _lookups(stored, values)
            differences[stored.type] = differences.get(stored.type, 0) - 1
    rows.totals = [{"type": kind, "difference": n} for kind, n in sorted(differences.items()) if n]
    _memberships(rows, writes)
    rows.logged = [_logged(entry.change, entry.outcome, positions) for entry in writes.logged]
    rows.events = [
        event.to_row()
        for entry in writes.logged
        for event in events.of_outcome(registry, entry.change, entry.outcome, changed=entry.changed)
    ]
    rows.settled = [
        # A dead letter's fences stay: what it takes away must not come back for a fault of ours.
        {"change_id": str(entry.change.change_id), "lifts": entry.outcome.status != events.DEAD}
        for entry in writes.logged
        if entry.change.promised
    ]
    return rows.as_parameter()


def _update(
    rows: _Rows,
    resource_type: schemas.ResourceType,
    before: snapshots.Stored,
    after: snapshots.Stored,
) -> None:
    earlier = documents.lookup_values(resource_type, before.document)
    values = documents.lookup_values(resource_type, after.document)
    rows.updated.append(_resource(after, values))
    unique = _unique(resource_type, before), _unique(resource_type, after)
    lookups = _lookups(before, earlier), _lookups(after, values)
    for (old, new), removed, added in (
        (unique, rows.unique_removed, rows.unique_added),
        (lookups, rows.lookup_removed, rows.lookup_added),
    ):
        removed += [row for row in old if row not in new]
        added += [row for row in new if row not in old]


def _resource(stored: snapshots.Stored, values: Mapping[str, Any]) -> Row:
    row = {
        "type": stored.type,
        "id": str(stored.id),
        "version": stored.version,
        "document": stored.document,
        "external_id": values["external_id"],
        "display_name": values["display_name"],
        "modified_at": stored.modified_at,
    }
    folded = foldings.document(stored.document)
    if folded is not None:
        row["folded"] = folded
    return row


def _unique(resource_type: schemas.ResourceType, stored: snapshots.Stored) -> list[Row]:
    return [
        {"type": key.type, "path": key.path, "folded": key.folded, "id": str(stored.id)}
        for key in snapshots.unique_keys(resource_type, stored.document)
    ]


def _lookups(stored: snapshots.Stored, values: Mapping[str, Any]) -> list[Row]:
    return [
        {"type": stored.type, "path": "emails.value", "folded": folded, "id": str(stored.id)}
        for folded in values["emails"]
    ]


def _memberships(rows: _Rows, writes: units.Writes) -> None:
    for group, membership in writes.memberships.items():
        present = {member: value for member, value in membership.overrides.items() if value is not None}
        if membership.replaced:
            rows.cleared.append({"id": str(group)})
            rows.kept += [
                {"group_id": str(group), "member_id": str(member)}
                for member in present
                if member not in membership.left
            ]
        else:
            rows.left += [
                {"group_id": str(group), "member_id": str(member)}
                for member, value in membership.overrides.items()
                if value is None or member in membership.left
            ]
        rows.joined += [
            {
                "group_id": str(group),
                "member_id": str(value.id),
                "member_type": value.type,
                "display": value.display,
                "folded": foldings.text(value.display),
            }
            for value in present.values()
        ]


def _logged(change: records.Change, outcome: records.Outcome, positions: Mapping[ids.ChangeId, str]) -> Row:
    row = {
        "accepted_at": change.accepted_at,
        "change_id": str(change.change_id),
        "stream_id": positions[change.change_id],
        "operation": change.operation,
        "resource_type": change.resource_type,
        "resource_id": str(outcome.resource_id or change.resource_id),
        "token_id": change.token_id,
        "request_id": change.request_id,
        "body": change.body,
        "status": outcome.status,
        "scim_type": outcome.scim_type,
        "detail": outcome.detail,
        "version": outcome.version,
    }
    if change.part_of is not None:
        row["bulk_id"], row["bulk_index"] = str(change.part_of[0]), change.part_of[1]
    return row
