"""What one PATCH operation makes of the value of one attribute: pure functions from the old value to the new.

`patches` finds the attribute and calls `changed`. Values here are in their stored form; `None` stands for
unassigned. Nothing given is ever changed in place, and an operation applied twice gives what it gave once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from usher_core import errors
from usher_core.scim import conditions, evaluations
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
    return [held for held in current if not any(_names(attribute, item, held) for item in value)] or None


def _added(attribute: Attribute, current: list[Any], given: list[Any]) -> list[Any]:
    result = list(current)
    touched = set()
    for item in given:
        index = next((i for i, held in enumerate(result) if _same(attribute, item, held)), None)
        if index is None:
            index = len(result)
            result.append(item)
        elif isinstance(item, dict):
            result[index] = {**result[index], **item}
        if isinstance(item, dict) and item.get("primary") is True:
            touched.add(index)
    return _with_one_primary(attribute, result, touched)


def _same(attribute: Attribute, given: Any, held: Any) -> bool:
    """Whether adding `given` would repeat `held`: RFC 7643 §2.4 counts value and type."""
    if not isinstance(given, dict):
        return bool(evaluations.comparable(attribute, given) == evaluations.comparable(attribute, held))
    if "value" not in given:
        return bool(given == held)
    return _agree(attribute, given, held, ("value", "type"))


def _names(attribute: Attribute, listed: Any, held: Any) -> bool:
    """Whether a value listed for removal means `held`; what it doesn't mention may be anything."""
    if not isinstance(listed, dict):
        return _same(attribute, listed, held)
    return _agree(attribute, listed, held, ("value", "type") if "value" in listed else tuple(listed))


def _agree(
    attribute: Attribute, given: Mapping[str, Any], held: Mapping[str, Any], names: tuple[str, ...]
) -> bool:
    for name in names:
        sub = attribute.sub_attributes[name.lower()] if name in given else None
        if sub is None:
            continue
        if name not in held:
            return False
        if evaluations.comparable(sub, given[name]) != evaluations.comparable(sub, held[name]):
            return False
    return True


# Elements of a list, or the single value of a complex attribute, chosen by a filter.


def _changed_elements(path: Path, op: str, value: Any, current: Any) -> Any:
    attribute = path.reference.attribute
    single = [] if current is None else [current]
    held = list(current or []) if attribute.multi_valued else single
    condition = path.filter
    chosen = [
        index
        for index, element in enumerate(held)
        if condition is None or evaluations.matches_element(condition, element)
    ]
    if op == "remove":
        result = _removed(path, held, chosen)
    elif chosen:
        result = _updated(path, op, value, held, chosen)
    else:
        result = _with_new(path, value, held)
    if attribute.multi_valued:
        return result or None
    return result[0] if result else None


def _removed(path: Path, held: list[Any], chosen: list[int]) -> list[Any]:
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
    return result


def _with_new(path: Path, value: Any, held: list[Any]) -> list[Any]:
    """Add the element that the filter describes; Entra ID expects it where RFC 7644 answers noTarget."""
    described = {} if path.filter is None else conditions.implied(path.filter)
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    if described is None or (held and not attribute.multi_valued):
        raise errors.NoTarget(f"{path.text} matches no value.")
    if attribute.type != "complex":
        return _added(attribute, held, [value])
    element = _assigned({**described, **(value if sub is None else {sub.name: value})})
    # A value that contradicts the filter must not make one more element each time it is sent.
    return _added(attribute, held, [element] if element else [])


def _updated(path: Path, op: str, value: Any, held: list[Any], chosen: list[int]) -> list[Any]:
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    result = list(held)
    touched = set()
    for index in chosen:
        if attribute.type != "complex":
            result[index] = value
            continue
        given = {sub.name: value} if sub is not None else value
        base = held[index]
        if op == "replace" and sub is None:
            # RFC 7644 §3.5.2.3 replaces the element; it stays the one that the filter chooses.
            base = (conditions.implied(path.filter) if path.filter is not None else None) or {}
        result[index] = _assigned({**base, **given})
        if result[index].get("primary") is True:
            touched.add(index)
    return [element for element in _with_one_primary(attribute, result, touched) if element != {}]


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
