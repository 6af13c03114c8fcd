"""What a batch may assume of the store, so that it is read, applied and written in one round trip; pure.

`batches` comes here with a batch that only creates what refers to nothing. Nearly always nobody holds its
names and none of its changes was applied before. So it is applied to this assumption at once, and the store
writes the result if it finds under the tenant's lock what was assumed; if not, it writes nothing, and the
batch goes the general way. Invariant: all that is assumed is looked at under the lock, so nothing is written
that the general way would not have written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from usher_core.changes import records, snapshots
from usher_core.scim import schemas
from usher_core.store import rowsets

NOW = records.EPOCH
"""Stands for the moment of the transaction, until the store has told it."""


def may_be_made(changes: Iterable[records.Change], needs: snapshots.Needs) -> bool:
    """Tell whether all that a batch asks is whether its names are free and its changes new."""
    others = (needs.resources, needs.pairs, needs.targets, needs.counted, needs.left, needs.deleted)
    return (
        not any(others) and not needs.selections and all(change.operation == "create" for change in changes)
    )


def answers(registry: schemas.Registry, config: Mapping[str, Any]) -> dict[str, Any]:
    """Write the answer of `usher_read_batch` to questions that have none, but for `now`."""
    return {"config": config, "schemas_version": registry.version}


def without_moments(rows: dict[str, list[rowsets.Row]]) -> dict[str, list[rowsets.Row]]:
    """Leave out of the created resources' rows what only the store knows."""
    for row in rows.get("inserted", ()):
        del row["created_at"], row["modified_at"]
    return rows


def told(outcome: records.Outcome, now: str) -> records.Outcome:
    """Put the moment in that the store told."""
    if outcome.document is None:
        return outcome
    moment = rowsets.moment(now)
    return dataclasses.replace(outcome, created_at=moment, modified_at=moment)
