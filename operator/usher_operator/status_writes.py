"""Writes statuses: only what differs, what matters at once, the rest at most once in ten seconds a tenant.

`looks` and `statistics` write through it, so that together they keep to that. Invariant: what is not written
now is told to the caller, who comes again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from usher_operator import conditions, inventories, objects
from usher_operator.inventories import Body, Key

SELDOM = 10.0  # seconds between two writes of what does not matter at once


class Writer:
    """The one way to the statuses."""

    def __init__(self, objects_: objects.Objects, inventory: inventories.Inventory) -> None:
        self._objects = objects_
        self._inventory = inventory
        self._written: dict[Key, float] = {}

    async def write(self, body: Body, wanted: Mapping[str, Any]) -> float:
        """Write what differs; `None` takes a field away. Returns in how many seconds to come again, or 0.

        Raises:
            KubernetesUnavailable: 404 and 409 mean that the object is gone.
        """
        key = inventories.key_of(body)
        latest = self._inventory.get(key) or body
        existing = latest.get("status") or {}
        changes = {name: value for name, value in wanted.items() if existing.get(name) != value}
        if not changes:
            return 0.0
        wait = self._written.get(key, -SELDOM) + SELDOM - time.monotonic()
        if wait > 0 and not _is_urgent(existing, changes):
            return wait
        self._written[key] = time.monotonic()
        await self._objects.patch_status(body, changes)
        return 0.0

    def forget(self, key: Key) -> None:
        """Forget a tenant that is gone."""
        self._written.pop(key, None)


def _is_urgent(existing: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    """Tell whether somebody waits for it: a condition that turns, a spec that was seen, another token."""
    if changes.keys() & {"observedGeneration", "endpoint"}:
        return True
    if "tokens" in changes and _ids(changes["tokens"]) != _ids(existing.get("tokens")):
        return True
    before = {condition["type"]: condition for condition in existing.get("conditions") or ()}
    return any(
        conditions.differ(before.get(condition["type"]), condition)
        for condition in changes.get("conditions") or ()
    )


def _ids(tokens: Any) -> list[tuple[str, Any]]:
    return [(token.get("id"), token.get("previous")) for token in tokens or ()]
