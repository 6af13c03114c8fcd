"""Filters run on documents, in memory.

`patches` chooses the elements of a value path with an `element_test`; tests hold the store's SQL against
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
            return any(map(element_test(inner), documents.found(reference, document)))
        case Comparison(reference) | Presence(reference):
            return _test(filter_)(documents.found(reference, document))


def element_test(filter_: Filter) -> Callable[[Any], bool]:
    """Make the test of whether one value of an attribute matches the filter of a value path on it."""
    match filter_:
        case And(left, right):
            both = element_test(left), element_test(right)
            return lambda element: both[0](element) and both[1](element)
        case Or(left, right):
            either = element_test(left), element_test(right)
            return lambda element: either[0](element) or either[1](element)
        case Not(inner):
            holds = element_test(inner)
            return lambda element: not holds(element)
        case Comparison(reference) | Presence(reference):
            return _element_test(reference.sub_attribute, _test(filter_))
        case ValuePath():  # the parser makes none inside another
            return lambda _: False


def _element_test(sub: Attribute | None, test: Callable[[list[Any]], bool]) -> Callable[[Any], bool]:
    def of_element(element: Any) -> bool:
        held = element
        if sub is not None:
            held = element.get(sub.name) if isinstance(element, dict) else None
        listed = held if isinstance(held, list) else [held]
        return test([value for value in listed if value is not None])

    return of_element


def _test(condition: Comparison | Presence) -> Callable[[list[Any]], bool]:
    """Make the test of whether one of the values that were found stands in the relation."""
    if isinstance(condition, Presence):
        return lambda found: any(value not in ("", {}) for value in found)
    is_unequal = condition.operator == "ne"
    if condition.value is None:
        return lambda found: bool(found) == is_unequal
    relation = _RELATIONS[condition.operator]
    target = condition.attribute.target
    wanted = values.comparable(target, condition.value)

    def compare(found: list[Any]) -> bool:
        return (
            any(relation(values.comparable(target, value), wanted) for value in found)
            if found
            else is_unequal
        )

    return compare
