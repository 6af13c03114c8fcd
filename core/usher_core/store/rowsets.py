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
            rows.inserted.append(_resource(resource_type, stored, created=True))
            rows.unique_added += _unique(resource_type, stored)
            rows.lookup_added += _lookups(resource_type, stored)
            differences[stored.type] = differences.get(stored.type, 0) + 1
        for stored in writes.updated:
            _update(rows, registry.by_name(stored.type), writes.before[stored.id], stored)
        for stored in writes.deleted:
            resource_type = registry.by_name(stored.type)
            rows.deleted.append({"type": stored.type, "id": str(stored.id)})
            rows.unique_removed += _unique(resource_type, stored)
            rows.lookup_removed += _lookups(resource_type, stored)
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
    rows.updated.append(_resource(resource_type, after, created=False))
    for read, removed, added in (
        (_unique, rows.unique_removed, rows.unique_added),
        (_lookups, rows.lookup_removed, rows.lookup_added),
    ):
        old, new = read(resource_type, before), read(resource_type, after)
        removed += [row for row in old if row not in new]
        added += [row for row in new if row not in old]


def _resource(resource_type: schemas.ResourceType, stored: snapshots.Stored, *, created: bool) -> Row:
    values = documents.lookup_values(resource_type, stored.document)
    row = {
        "type": stored.type,
        "id": str(stored.id),
        "version": stored.version,
        "document": stored.document,
        "external_id": values["external_id"],
        "display_name": values["display_name"],
        "modified_at": stored.modified_at,
    }
    if created:
        row["created_at"] = stored.created_at
    return row


def _unique(resource_type: schemas.ResourceType, stored: snapshots.Stored) -> list[Row]:
    return [
        {"type": key.type, "path": key.path, "folded": key.folded, "id": str(stored.id)}
        for key in snapshots.unique_keys(resource_type, stored.document)
    ]


def _lookups(resource_type: schemas.ResourceType, stored: snapshots.Stored) -> list[Row]:
    emails = documents.lookup_values(resource_type, stored.document)["emails"]
    return [
        {"type": stored.type, "path": "emails.value", "folded": folded, "id": str(stored.id)}
        for folded in dict.fromkeys(emails)
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
