"""Looks: how much work an operation of a PATCH is on the lists that a document holds.

`patches` counts before it applies each operation. A small message may ask for much of long lists; what stays
within the limit is applied in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from usher_core.scim.operations import Operation
from usher_core.scim.paths import Path

# At elements of lists, by all operations of a message and all comparisons of their filters. A look takes
# about a microsecond.
MAX_LOOKS: Final = 40_000
# Of an operation at each element that is there or given, to tell whether they are the same.
_FOR_SAME: Final = 5


def count(document: Mapping[str, Any], path: Path, operation: Operation) -> int:
    """Count how often the operation looks at an element, of those there are and of those that it brings."""
    reference, value = path.reference, operation.value
    holder = document if reference.urn is None else document.get(reference.urn) or {}
    held = holder.get(reference.attribute.name)
    listed = held if isinstance(held, list) else [held]
    found = len(listed)
    subs = reference.attribute.sub_attributes
    has_lists = bool(subs) and any(sub.multi_valued for sub in subs.values())
    inside = _inside(listed) if has_lists else 0
    if reference.sub_attribute is None and path.filter is None and isinstance(value, list):
        if operation.op == "replace":
            return 0
        return _FOR_SAME * (found + len(value)) + inside + (_inside(value) if has_lists else 0)
    # What is changed may then be another's double, as may what a filter describes that finds nothing.
    only_removes = operation.op == "remove" and reference.sub_attribute is None
    looks = found * (path.comparisons + (1 if only_removes else _FOR_SAME)) + inside * (path.comparisons + 2)
    # Each list inside an element takes all that is given, or loses it.
    return looks + (found * len(value) if isinstance(value, list) else 0)


def _inside(elements: Iterable[Any]) -> int:
    """Count what the lists inside of elements hold."""
    return sum(
        len(item)
        for element in elements
        if isinstance(element, dict)
        for item in element.values()
        if isinstance(item, list)
    )
