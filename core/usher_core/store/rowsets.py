"""Turns what a batch did into the rows of each table; called by `batches`, pure.

The rows are plain JSON values: each table's rows travel to PostgreSQL as one JSON parameter.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

from usher_core import ids
from usher_core.changes import records, snapshots, units
from usher_core.scim import documents, schemas

Row = dict[str, Any]


@dataclasses.dataclass(slots=True)
class RowSets:
    """The rows to delete and insert, by table; the order of writing is `batches`' business."""

    inserted: list[Row] = dataclasses.field(default_factory=list)
    updated: list[Row] = dataclasses.field(default_factory=list)
    deleted: list[Row] = dataclasses.field(default_factory=list)
    unique_removed: list[Row] = dataclasses.field(default_factory=list)
    unique_added: list[Row] = dataclasses.field(default_factory=list)
    lookup_removed: list[Row] = dataclasses.field(default_factory=list)
    lookup_added: list[Row] = dataclasses.field(default_factory=list)
    cleared: list[uuid.UUID] = dataclasses.field(default_factory=list)
    kept: list[Row] = dataclasses.field(default_factory=list)
    left: list[Row] = dataclasses.field(default_factory=list)
    joined: list[Row] = dataclasses.field(default_factory=list)
    totals: list[Row] = dataclasses.field(default_factory=list)
    logged: list[Row] = dataclasses.field(default_factory=list)


def derive(
    registry: schemas.Registry | None, writes: units.Writes, positions: Mapping[ids.ChangeId, str]
) -> RowSets:
    """List the rows that a batch writes; `registry` may be `None` when it touched no resource."""
    rows = RowSets()
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
    return rows


def _update(
    rows: RowSets,
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
    return {
        "type": stored.type,
        "id": str(stored.id),
        "version": stored.version,
        "document": stored.document,
        "external_id": values["external_id"],
        "display_name": values["display_name"],
        "modified_at": stored.modified_at,
    }


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


def _memberships(rows: RowSets, writes: units.Writes) -> None:
    for group, membership in writes.memberships.items():
        present = {member: value for member, value in membership.overrides.items() if value is not None}
        if membership.replaced:
            rows.cleared.append(group)
            rows.kept += [{"group_id": str(group), "member_id": str(member)} for member in present]
        else:
            rows.left += [
                {"group_id": str(group), "member_id": str(member)}
                for member, value in membership.overrides.items()
                if value is None
            ]
        rows.joined += [
            {
                "group_id": str(group),
                "member_id": str(value.id),
                "member_type": value.type,
                "display": value.display,
            }
            for value in present.values()
        ]


def _logged(change: records.Change, outcome: records.Outcome, positions: Mapping[ids.ChangeId, str]) -> Row:
    return {
        "accepted_at": change.accepted_at,
        "change_id": str(change.change_id),
        "stream_id": positions[change.change_id],
        "operation": change.operation,
        "resource_type": change.resource_type,
        "resource_id": str(change.resource_id),
        "token_id": change.token_id,
        "request_id": change.request_id,
        "body": change.body,
        "status": outcome.status,
        "scim_type": outcome.scim_type,
        "detail": outcome.detail,
        "version": outcome.version,
    }
