"""Writes conditions the way Kubernetes wants them.

Called by `statuses`, and by whoever reads a status. Invariant: `lastTransitionTime` moves when a condition's
status changes, and only then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from usher_core.tenants.conditions import Condition
from usher_operator import moments


def merge(
    existing: Sequence[Mapping[str, Any]], new: Iterable[Condition], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Put new conditions in the place of existing ones of their type; the others stay as they are."""
    merged = {condition["type"]: dict(condition) for condition in existing}
    for condition in new:
        before = merged.get(condition.type, {})
        moved = before.get("status") != condition.status
        merged[condition.type] = {
            "type": condition.type,
            "status": condition.status,
            "reason": condition.reason,
            "message": condition.message,
            "observedGeneration": generation,
            "lastTransitionTime": moments.text_of(now) if moved else before["lastTransitionTime"],
        }
    return list(merged.values())


def is_news(existing: Sequence[Mapping[str, Any]], new: Condition) -> bool:
    """Tell whether a condition says something else than the one of its type before."""
    before = next((condition for condition in existing if condition["type"] == new.type), None)
    return differ(before, {"status": new.status, "reason": new.reason})


def differ(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    """Tell whether two conditions of one type say different things, whatever their words are."""
    return before is None or any(before[field] != after[field] for field in ("status", "reason"))


def find(existing: Mapping[str, Any], type_: str) -> Mapping[str, Any]:
    """Find a condition in a status; one that is not there is empty."""
    conditions = existing.get("conditions") or ()
    return next((condition for condition in conditions if condition["type"] == type_), {})
