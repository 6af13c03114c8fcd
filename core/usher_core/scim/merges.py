"""What is given, laid over what is held: how values join a list, leave it, and change a complex value.

`elements` asks here for what each operation of a PATCH does. Values are in their stored form, and so is what
comes out; nothing that is given is ever changed in place.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping
from typing import Any

from usher_core import errors
from usher_core.scim import repetitions
from usher_core.scim.schemas import Attribute

# Complex values.


def assigned(value: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out the sub-attributes that are null."""
    return {name: item for name, item in value.items() if item is not None}


def overlaid(attribute: Attribute, op: str, base: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """Lay sub-attributes over those of one value (RFC 7644 §3.5.2.3: the others stay); nulls unassign.

    `None` where nothing is left of a single value; of one in a list that is an empty object.
    """
    if not attribute.multi_valued and attribute.value is not None and given.get("value") == "":
        return None  # as in a body: an empty `manager.value` is no manager
    if tells_another(attribute, given) and given["value"] != base.get("value"):
        base = {}
    result = {**base, **given}
    if op == "add":
        # RFC 7644 §3.5.2.1: what is added to a list is appended, wherever the list is.
        for name, value in given.items():
            held = base.get(name)
            if isinstance(value, list) and isinstance(held, list):
                result[name] = added(attribute.sub_attributes[name.lower()], held, value)
    result = assigned(result)
    return result if result or attribute.multi_valued else None


def tells_another(attribute: Attribute, given: Mapping[str, Any]) -> bool:
    """Whether this may be about another resource: the `$ref` of another manager is not this one's."""
    return not attribute.multi_valued and "value" in given and attribute.sub_attribute("$ref") is not None


# Lists.


def added(
    attribute: Attribute, held: list[Any], given: Iterable[Any], *, op: str = "add", merges: bool = True
) -> list[Any]:
    """Append what is not there yet; what is there takes the sub-attributes given, or gives way to them.

    Raises:
        InvalidValue: several of those given would be primary.
    """
    result = list(held)
    touched = set()
    places: dict[Hashable, int] = {}
    for place, element in enumerate(held):
        _note(places, attribute, element, place)
    for item in given:
        index = places.get(next(repetitions.keys(attribute, item)))
        if index is None:
            index = len(result)
            result.append(item)
            _note(places, attribute, item, index)
        elif isinstance(item, dict):
            result[index] = overlaid(attribute, op, result[index], item) if merges else item
        if isinstance(item, dict) and item.get("primary") is True:
            touched.add(index)
    return with_one_primary(attribute, result, touched)


def _note(places: dict[Hashable, int], attribute: Attribute, element: Any, place: int) -> None:
    for key in repetitions.keys(attribute, element):
        places.setdefault(key, place)


def without(attribute: Attribute, held: list[Any], listed: Iterable[Any]) -> list[Any]:
    """Leave out what is listed; whatever a listed value doesn't mention may be anything."""
    unwanted: dict[tuple[str, ...], set[Hashable]] = {}
    for item in listed:
        names = repetitions.told_by(item) or (tuple(sorted(item)) if isinstance(item, dict) else ())
        unwanted.setdefault(names, set()).add(repetitions.key(attribute, item, names))
    return [
        element
        for element in held
        if not any(repetitions.key(attribute, element, names) in keys for names, keys in unwanted.items())
    ]


def holds(attribute: Attribute, held: Iterable[Any], given: Any) -> bool:
    """Whether one of those held has all that is given, and nothing where null is given."""
    told = given if isinstance(given, dict) else {}
    names = tuple(sorted(assigned(told)))
    nulls = told.keys() - set(names)
    wanted = repetitions.key(attribute, given, names)
    return any(
        repetitions.key(attribute, element, names) == wanted and not any(name in element for name in nulls)
        for element in held
    )


def with_one_primary(attribute: Attribute, elements: list[Any], touched: Collection[int]) -> list[Any]:
    """Let the one that has just become primary be the only one (RFC 7644 §3.5.2).

    Raises:
        InvalidValue: there are several such.
    """
    if len(touched) > 1:
        raise errors.InvalidValue(f"{attribute.name}.primary can be true for one value only.")
    if not touched:
        return elements
    others = [
        {**element, "primary": False} if index not in touched and element.get("primary") is True else element
        for index, element in enumerate(elements)
    ]
    return repetitions.once(attribute, others)  # that may be all that told two of them apart
