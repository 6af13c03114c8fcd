"""Filters run on documents, in memory.

`patches` chooses the elements of a value path with `matches_element`; tests hold the store's SQL against
`matches`. Texts are compared folded where the schema says that case does not count, dates as moments in time.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Final

from usher_core.scim import documents, values
from usher_core.scim.filters import And, Comparison, Filter, Not, Or, Presence, ValuePath
from usher_core.scim.schemas import Attribute

_RELATIONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "co": operator.contains,
    "sw": str.startswith,
    "ew": str.endswith,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
}


def matches(filter_: Filter, document: Mapping[str, Any]) -> bool:
    """Whether a document matches. `ne` holds for what is unassigned; of many values, any may match."""
    match filter_:
        case And(left, right):
            return matches(left, document) and matches(right, document)
        case Or(left, right):
            return matches(left, document) or matches(right, document)
        case Not(inner):
            return not matches(inner, document)
        case ValuePath(reference, inner):
            found = documents.found(reference, document)
            return any(matches_element(inner, element) for element in found)
        case Comparison(reference) | Presence(reference):
            return _holds(filter_, documents.found(reference, document))


def matches_element(filter_: Filter, element: Any) -> bool:
    """Whether one value of an attribute matches the filter of a value path on that attribute."""
    match filter_:
        case And(left, right):
            return matches_element(left, element) and matches_element(right, element)
        case Or(left, right):
            return matches_element(left, element) or matches_element(right, element)
        case Not(inner):
            return not matches_element(inner, element)
        case Comparison(reference) | Presence(reference):
            held = element
            if reference.sub_attribute is not None:
                held = element.get(reference.sub_attribute.name) if isinstance(element, dict) else None
            listed = held if isinstance(held, list) else [held]
            return _holds(filter_, [value for value in listed if value is not None])
        case ValuePath():  # the parser makes none inside another
            return False


def _holds(condition: Comparison | Presence, found: list[Any]) -> bool:
    if isinstance(condition, Presence):
        return any(value not in ("", {}) for value in found)
    if condition.value is None:
        return bool(found) == (condition.operator == "ne")
    if not found:
        return condition.operator == "ne"
    relation = _RELATIONS[condition.operator]
    target = condition.attribute.target
    wanted = comparable(target, condition.value)
    return any(relation(comparable(target, value), wanted) for value in found)


def comparable(attribute: Attribute, value: Any) -> Any:
    """Bring a value to the form in which the relations of filters compare it."""
    if isinstance(value, str):
        moment = values.date_time(value) if attribute.type == "dateTime" else None
        return moment if moment is not None else values.fold(attribute, value)
    return value
