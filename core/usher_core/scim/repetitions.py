"""When two values of a multi-valued attribute are one, and lists in which each stands once.

RFC 7643 §2.4: value and type together tell one from another. `readers` leaves out what a client repeats,
`elements` finds again what a PATCH adds or lists. Values are in their stored form and compared as filters do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from typing import Any

from usher_core.scim import values
from usher_core.scim.attributes import Attribute


def once(attribute: Attribute, elements: list[Any]) -> list[Any]:
    """Leave each value once, where it stood first; of its other sub-attributes the last word counts."""
    found: dict[Hashable, Any] = {}
    for element in elements:
        told = next(keys(attribute, element))
        held = found.get(told)
        if held is None:
            found[told] = element
        elif isinstance(held, dict):
            found[told] = {**held, **element}
    return list(found.values())


def keys(attribute: Attribute, element: Any) -> Iterator[Hashable]:
    """List by what a value is found again, strictest first."""
    names = told_by(element)
    yield (
        (names, key(attribute, element, names))
        if names or not isinstance(element, dict)
        else _frozen(element)
    )
    if len(names) > 1:
        yield names[:1], key(attribute, element, names[:1])


def told_by(element: Any) -> tuple[str, ...]:
    """Name the sub-attributes that tell one value from another; none where `value` is not given."""
    if not isinstance(element, dict) or "value" not in element:
        return ()
    return ("value", "type") if "type" in element else ("value",)


def key(attribute: Attribute, element: Any, names: tuple[str, ...]) -> Hashable:
    """Bring what the names stand for to the form in which it is compared; `None` where one is missing."""
    if not isinstance(element, dict):
        return _frozen(values.comparable(attribute, element))
    found: list[Hashable] = []
    for name in names:
        if name not in element:
            return None
        value = values.comparable(attribute.sub_attributes[name.lower()], element[name])
        found.append(value if isinstance(value, str) else _frozen(value))
    return tuple(found)


def _frozen(value: Any) -> Hashable:
    if isinstance(value, dict):
        return frozenset((name, _frozen(item)) for name, item in value.items())
    return tuple(map(_frozen, value)) if isinstance(value, list) else value
