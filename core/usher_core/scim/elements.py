"""What one PATCH operation makes of the value of one attribute: pure functions from the old value to the new.

`patches` finds the attribute and calls `changed`. Values here are in their stored form; `None` stands for
unassigned. Nothing given is ever changed in place, and an operation applied twice gives what it gave once.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping
from typing import Any, Final

from usher_core import errors
from usher_core.scim import conditions, evaluations, repetitions
from usher_core.scim.paths import Path
from usher_core.scim.schemas import Attribute

# Sub-attributes that tell something about a value, and are no value themselves.
_LABELS: Final = frozenset({"type", "primary"})


def changed(path: Path, op: str, value: Any, current: Any) -> Any:
    """Compute the new value of the attribute of `path`.

    Raises:
        NoTarget: the path's filter matches nothing, and doesn't say what a new element would be.
        InvalidValue: several elements would be primary.
    """
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    if path.filter is not None or (attribute.multi_valued and sub is not None):
        return _changed_elements(path, op, value, current)
    if sub is not None:
        return _merged(attribute, current, {sub.name: None if op == "remove" else value})
    if attribute.multi_valued:
        return _changed_list(attribute, op, value, current or [])
    if op == "remove":
        return None
    if attribute.type == "complex":
        return _merged(attribute, current, value)
    return value


def _merged(attribute: Attribute, current: Mapping[str, Any] | None, given: Mapping[str, Any]) -> Any:
    # RFC 7644 §3.5.2.3: sub-attributes that are not given stay as they are …
    base: dict[str, Any] = dict(current or {})
    if attribute.value is not None and "value" in given:
        if not given["value"]:
            return None
        if given["value"] != base.get("value"):
            base = {}  # … but `$ref` and the name of another manager are not this one's
    base.update(given)
    return _assigned(base) or None


def _assigned(element: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in element.items() if value is not None}


# Lists as a whole.


def _changed_list(attribute: Attribute, op: str, value: Any, current: list[Any]) -> list[Any] | None:
    if op == "replace":
        return value or None
    if op == "add":
        return _added(attribute, current, value)
    if value is None:
        return None
    # Entra ID: a remove that lists values removes those alone.
    return _without(attribute, current, value) or None


def _without(attribute: Attribute, current: list[Any], listed: list[Any]) -> list[Any]:
    """Leave out what is listed; whatever a listed value doesn't mention may be anything."""
    unwanted: dict[tuple[str, ...], set[Hashable]] = {}
    for item in listed:
        names = repetitions.told_by(item) or (tuple(sorted(item)) if isinstance(item, dict) else ())
        unwanted.setdefault(names, set()).add(repetitions.key(attribute, item, names))
    return [
        held
        for held in current
        if not any(repetitions.key(attribute, held, names) in keys for names, keys in unwanted.items())
    ]


def _added(attribute: Attribute, current: list[Any], given: list[Any], *, merges: bool = True) -> list[Any]:
    result = list(current)
    touched = set()
    places: dict[Hashable, int] = {}
    for place, held in enumerate(current):
        _note(places, attribute, held, place)
    for item in given:
        index = places.get(next(repetitions.keys(attribute, item)))
        if index is None:
            index = len(result)
            result.append(item)
            _note(places, attribute, item, index)
        elif isinstance(item, dict):
            result[index] = {**result[index], **item} if merges else item
        if isinstance(item, dict) and item.get("primary") is True:
            touched.add(index)
    return _with_one_primary(attribute, result, touched)


def _note(places: dict[Hashable, int], attribute: Attribute, element: Any, place: int) -> None:
    for key in repetitions.keys(attribute, element):
        places.setdefault(key, place)


# Elements of a list, or the single value of a complex attribute, chosen by a filter.


def _changed_elements(path: Path, op: str, value: Any, current: Any) -> Any:
    attribute = path.reference.attribute
    single = [] if current is None else [current]
    held = list(current or []) if attribute.multi_valued else single
    is_chosen = evaluations.element_test(path.filter) if path.filter is not None else lambda _: True
    chosen = {index: None for index, element in enumerate(held) if is_chosen(element)}
    if op == "remove":
        result = _removed(path, held, chosen)
    elif chosen:
        result = _updated(path, op, value, held, chosen)
    else:
        result = _with_new(path, op, value, held)
    if attribute.multi_valued:
        return result or None
    return result[0] if result else None


def _removed(path: Path, held: list[Any], chosen: Collection[int]) -> list[Any]:
    sub = path.reference.sub_attribute
    result = []
    for index, element in enumerate(held):
        if index not in chosen:
            result.append(element)
        elif sub is not None:
            rest = {name: value for name, value in element.items() if name != sub.name}
            # An address without anything but the label "work" is no address.
            if sub.name not in element or not _LABELS.issuperset(rest):
                result.append(rest)
    return result if sub is None else _once(path, result)


def _with_new(path: Path, op: str, value: Any, held: list[Any]) -> list[Any]:
    """Add the element that the filter describes; Entra ID expects it where RFC 7644 answers noTarget."""
    described = {} if path.filter is None else conditions.implied(path.filter)
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    if described is None or (held and not attribute.multi_valued):
        raise errors.NoTarget(f"{path.text} matches no value.")
    if attribute.type != "complex":
        return _added(attribute, held, [value])
    element = _assigned({**described, **(value if sub is None else {sub.name: value})})
    # A value that contradicts the filter must not make one more element each time it is sent. Of one that is
    # there a replace leaves what it would leave when sent again, for then the filter finds it.
    return _added(attribute, held, [element] if element else [], merges=op != "replace" or sub is not None)


def _updated(path: Path, op: str, value: Any, held: list[Any], chosen: Collection[int]) -> list[Any]:
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    # RFC 7644 §3.5.2.3 replaces the element; it stays the one that the filter chooses.
    kept = (conditions.implied(path.filter) if path.filter is not None else None) or {}
    result = list(held)
    touched = set()
    for index in chosen:
        if attribute.type != "complex":
            result[index] = value
            continue
        given = {sub.name: value} if sub is not None else value
        base = kept if op == "replace" and sub is None else held[index]
        result[index] = _assigned({**base, **given})
        if result[index].get("primary") is True:
            touched.add(index)
    return _once(
        path, [element for element in _with_one_primary(attribute, result, touched) if element != {}]
    )


def _once(path: Path, elements: list[Any]) -> list[Any]:
    """Make one of those that have become the same (RFC 7643 §2.4)."""
    attribute = path.reference.attribute
    return repetitions.once(attribute, elements) if attribute.multi_valued else elements


def _with_one_primary(attribute: Attribute, elements: list[Any], touched: set[int]) -> list[Any]:
    # RFC 7644 §3.5.2: a new primary value makes the others not primary.
    if len(touched) > 1:
        raise errors.InvalidValue(f"{attribute.name}.primary can be true for one value only.")
    if not touched:
        return elements
    return [
        {**element, "primary": False} if index not in touched and element.get("primary") is True else element
        for index, element in enumerate(elements)
    ]
