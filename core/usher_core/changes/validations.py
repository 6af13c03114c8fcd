"""Validating a change again, under other schemas than those that it was accepted under.

The api validates each change before it is queued; until its turn the tenant's schemas may have become others.
`snapshots` and `units` ask here. Invariant: a body that a unit of work applies obeys the schemas of its turn.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from usher_core.changes import records
from usher_core.scim import documents, patches, schemas


def renewed(
    change: records.Change, registry: schemas.Registry, *, ignore_unknown: bool = True
) -> records.Change:
    """Read the body of a change by the schemas of its turn; one that was read by them is returned as it is.

    Raises:
        ScimError: what the client is told, as if it had sent the change under these schemas.
    """
    if change.schemas_version == registry.version:
        return change
    kind = registry.by_name(change.resource_type)
    body: Any
    match change.operation:
        case "create" | "replace":
            body = documents.normalise(kind, change.body, ignore_unknown=ignore_unknown)
        case "patch":
            body = patches.dump(patches.reread(change.body, kind))
        case _:
            return change
    return dataclasses.replace(change, body=body, schemas_version=registry.version)
