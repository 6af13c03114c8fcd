"""What one PATCH operation makes of the value of one attribute: pure functions from the old value to the new.

`patches` finds the attribute and calls `changed`. Values here are in their stored form; `None` stands for
unassigned. Nothing given is ever changed in place, and an operation applied twice gives what it gave once: an
element is made only if the filter of the path then finds it. (One that makes primary what is not, by a filter
that asks for that, finds another the next time.)
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Final

from usher_core import errors
from usher_core.scim import conditions, documents, evaluations, merges, readers, references, repetitions
from usher_core.scim.paths import Path

# Sub-attributes that tell something about a value, and are no value themselves.
_LABELS: Final = frozenset({"type", "primary"})


def changed(path: Path, op: str, value: Any, current: Any) -> Any:
    """Compute the new value of the attribute of `path`.

    Raises:
        NoTarget: the path's filter matches nothing, and doesn't say what a new element would be.
        InvalidValue: several elements would be primary.
        MutabilityViolated: the last of a required list would be removed.
    """
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    if path.filter is not None or (attribute.multi_valued and sub is not None):
        return _changed_elements(path, op, value, current)
    if attribute.multi_valued:
        return _changed_list(path, op, value, current or [])
    if sub is not None:
        return merges.overlaid(attribute, op, current or {}, _part(path, op, value, current or {}))
    if op == "remove":
        return None
    if attribute.type == "complex":
        return merges.overlaid(attribute, op, current or {}, value)
    return value


def brought(path: Path, op: str, value: Any) -> Any:
    """Tell what an operation could bring to the attribute of `path`, whatever is held there.

    That is all that may be held after it and was not before, in the form in which the attribute holds it.
    """
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    if op == "remove":
        return None
    if sub is not None:
        value = {sub.name: value}
    if isinstance(value, dict):
        value = (_described(path) or {}) | value
    return [value] if attribute.multi_valued and not isinstance(value, list) else value


def _part(path: Path, op: str, value: Any, element: dict[str, Any]) -> dict[str, Any]:
    """Say of one value what its sub-attribute is to be; null where that is to be unassigned."""
    sub = path.reference.sub_attribute
    if sub is None:
        return dict(value)
    if op == "remove":
        # As of a list: a remove that lists values removes those alone.
        left = None if value is None else merges.without(sub, element.get(sub.name) or [], value)
        if not left and sub.name in element and documents.needed(sub):
            raise errors.MutabilityViolated(f"{path.text} is required: it can't be removed.")
        return {sub.name: left or None}
    return {sub.name: value}


def _changed_list(path: Path, op: str, value: Any, current: list[Any]) -> list[Any] | None:
    if op == "replace":
        return value or None
    if op == "add":
        return merges.added(path.reference.attribute, current, value)
    if value is None:
        return None
    # Entra ID: a remove that lists values removes those alone.
    return merges.without(path.reference.attribute, current, value) or None


# Elements of a list, or the single value of a complex attribute, chosen by a filter.


def _changed_elements(path: Path, op: str, value: Any, current: Any) -> Any:
    attribute = path.reference.attribute
    single = [] if current is None else [current]
    held = list(current or []) if attribute.multi_valued else single
    is_chosen = evaluations.element_test(path.filter) if path.filter is not None else _any
    chosen = {index: None for index, element in enumerate(held) if is_chosen(element)}
    if op == "remove":
        result = _removed(path, value, held, chosen)
    elif chosen:
        result = _updated(path, op, value, held, chosen)
    else:
        result = _with_new(path, op, value, held, is_chosen)
    if attribute.multi_valued:
        return result or None
    return result[0] if result else None


def _any(_: Any) -> bool:
    return True


def _removed(path: Path, value: Any, held: list[Any], chosen: Collection[int]) -> list[Any]:
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    result = []
    for index, element in enumerate(held):
        if index not in chosen:
            result.append(element)
        elif sub is not None:
            rest = merges.overlaid(attribute, "remove", element, _part(path, "remove", value, element)) or {}
            # An address without anything but the label "work" is no address.
            if sub.name not in element or not _LABELS.issuperset(rest):
                result.append(rest)
    return result if sub is None else _once(path, result)


def _updated(path: Path, op: str, value: Any, held: list[Any], chosen: Collection[int]) -> list[Any]:
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    replaces = op == "replace" and sub is None
    # RFC 7644 §3.5.2.3 replaces the element; it stays the one that the filter chooses.
    told = (conditions.implied(path.filter) if path.filter is not None else None) or {}
    result = list(held)
    touched = set()
    for index in chosen:
        if attribute.type != "complex":
            result[index] = value
            continue
        element = held[index]
        base = {name: element[name] for name in told if name in element} if replaces else element
        result[index] = merges.overlaid(attribute, op, base, _part(path, op, value, element)) or {}
        if result[index].get("primary") is True:
            touched.add(index)
    result = merges.with_one_primary(attribute, result, touched)
    return _once(path, [element for element in result if element != {}])


def _once(path: Path, elements: list[Any]) -> list[Any]:
    """Make one of those that have become the same (RFC 7643 §2.4)."""
    attribute = path.reference.attribute
    return repetitions.once(attribute, elements) if attribute.multi_valued else elements


def _with_new(
    path: Path, op: str, value: Any, held: list[Any], is_chosen: Callable[[Any], bool]
) -> list[Any]:
    """Add the element that the filter describes; Entra ID expects it where RFC 7644 answers noTarget."""
    attribute, sub = path.reference.attribute, path.reference.sub_attribute
    given = _part(path, op, value, {}) if attribute.type == "complex" else value
    unassigns = isinstance(given, dict) and not merges.overlaid(attribute, op, {}, given)
    if unassigns or (held and _is_done(path, given, held)):
        return held
    described = _described(path)
    is_another = bool(held) and not attribute.multi_valued
    element = given
    if described and isinstance(given, dict):
        element = merges.overlaid(attribute, op, described, given)
    # What the filter asks for may be read-only, or be contradicted: then one more would be made each time.
    if described is None or is_another or not is_chosen(element):
        raise errors.NoTarget(f"{path.text} matches no value.")
    if op != "replace" or sub is not None:
        return merges.added(attribute, held, [element], op=op)
    # Of a value that is there with another type a replace leaves what it leaves when it is sent again.
    return _once(path, merges.added(attribute, held, [element], merges=False))


def _described(path: Path) -> dict[str, Any] | None:
    """Read what the filter says of an element as if a client had sent it; `None` where that makes none."""
    if path.filter is None:
        return {}
    reference = references.AttributeReference(path.reference.urn, path.reference.attribute)
    told = conditions.implied(path.filter)
    if told is None or reference.attribute.type != "complex":
        return told
    try:
        read: dict[str, Any] | None = readers.partial(reference.attribute, reference.path)(told)
    except errors.InvalidValue:
        return None  # no value can be what the filter asks for
    return read


def _is_done(path: Path, given: Any, held: list[Any]) -> bool:
    """Whether the operation has already changed what its filter asks for, which so finds nothing more."""
    if path.filter is None:
        return False
    attribute = path.reference.attribute
    asked = {reference.target.name for reference in conditions.attributes(path.filter)}
    if isinstance(given, dict) and asked.isdisjoint(given) and not merges.tells_another(attribute, given):
        return False
    return merges.holds(attribute, held, given)
