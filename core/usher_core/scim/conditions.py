"""Conditions: the frozen tree that a filter is, and the comparisons that make sense in it.

`filters` builds trees while it reads a text; the store compiles them to SQL, `evaluations` runs them on a
document. A comparison made here always has a value of its attribute's type.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from usher_core import errors
from usher_core.scim import values
from usher_core.scim.references import AttributeReference
from usher_core.scim.schemas import Attribute

Operator = Literal["eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"]

OPERATORS: Final = frozenset({"eq", "ne", "co", "sw", "ew", "gt", "ge", "lt", "le"})
_TEXT: Final = frozenset({"co", "sw", "ew"})
_ORDER: Final = frozenset({"gt", "ge", "lt", "le"})
# RFC 7644 §3.4.2.2: what can't be ordered is refused; parts exist of texts only.
_REFUSED: Final = {
    "boolean": _TEXT | _ORDER,
    "binary": _ORDER,
    "integer": _TEXT,
    "decimal": _TEXT,
    "dateTime": _TEXT,
}
_NUMBER = re.compile(r"-?\d{1,300}(?P<real>(\.\d{1,300})?([eE][+-]?\d{1,3})?)", re.ASCII)


@dataclass(frozen=True, slots=True)
class And:
    """Both hold."""

    left: Filter
    right: Filter


@dataclass(frozen=True, slots=True)
class Or:
    """At least one holds."""

    left: Filter
    right: Filter


@dataclass(frozen=True, slots=True)
class Not:
    """The filter does not hold."""

    filter: Filter


@dataclass(frozen=True, slots=True)
class Comparison:
    """Some value of the attribute stands in the relation to `value`.

    `eq` with `None` holds for what is unassigned, and so does `ne` with any other value. The value of a
    dateTime attribute is its text, known to be one.
    """

    attribute: AttributeReference
    operator: Operator
    value: str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Presence:
    """The attribute has a value that is not empty."""

    attribute: AttributeReference


@dataclass(frozen=True, slots=True)
class ValuePath:
    """One and the same value of the complex `attribute` matches the filter.

    The references inside name `attribute` together with the sub-attribute, as `emails.type` does; inside a
    multi-valued attribute that is not complex, `value` is the attribute itself.
    """

    attribute: AttributeReference
    filter: Filter


Filter = And | Or | Not | Comparison | Presence | ValuePath


def comparable(reference: AttributeReference) -> AttributeReference:
    """Give a complex attribute its `value` (RFC 7643 §2.4); Entra ID compares `manager` and `members` so.

    Raises:
        InvalidFilter: the attribute is complex and has none, or is an extension, whose `value` is but a name.
    """
    if reference.target.type != "complex":
        return reference
    has_value = reference.attribute.value is not None and not reference.is_extension
    if reference.sub_attribute is None and has_value:
        return dataclasses.replace(reference, sub_attribute=reference.attribute.value)
    raise errors.InvalidFilter(f"{reference.path} is complex: compare one of its sub-attributes.")


def compare(reference: AttributeReference, operator: Operator, token: str) -> Comparison:
    """Make a comparison with a value as a filter writes it: a JSON string in quotes, or a bare word.

    Raises:
        InvalidFilter: the attribute's type doesn't have the operator, or such a value.
    """
    target, path = reference.target, reference.path
    if operator in _REFUSED.get(target.type, ()):
        raise errors.InvalidFilter(f"{path} is of type {target.type}: {operator} can't be used on it.")
    if token.lower() == "null":
        if operator not in ("eq", "ne"):
            raise errors.InvalidFilter(f"{path} can be compared with null by eq and ne only.")
        return Comparison(reference, operator, None)
    read = _READERS.get(target.type, _text)
    return Comparison(reference, operator, read(target, path, token))


def _text(_target: Attribute, path: str, token: str) -> str:
    if not token.startswith('"'):
        return token  # some versions of authentik send no quotes
    try:
        text = json.loads(token, strict=False)
    except ValueError as exc:
        raise errors.InvalidFilter(f"The value compared with {path} is no JSON string.") from exc
    flaw = values.unstorable(text)
    if flaw is not None:
        raise errors.InvalidFilter(f"The value compared with {path} has {flaw}, which no value can have.")
    return str(text)


def _boolean(target: Attribute, path: str, token: str) -> bool:
    # Entra ID quotes them.
    text = _text(target, path, token).lower()
    if text not in ("true", "false"):
        raise errors.InvalidFilter(f"{path} is a boolean: it can be compared with true and false only.")
    return text == "true"


def _number(target: Attribute, path: str, token: str) -> int | float:
    found = _NUMBER.fullmatch(token)
    if found is not None:
        # Brought to the form in which it would be stored, so that what was stored is found by the same text.
        with contextlib.suppress(errors.InvalidValue):
            number: int | float = values.checker(target, path)(float(token) if found["real"] else int(token))
            return number
    raise errors.InvalidFilter(
        f"{path} can be compared with a number of type {target.type} only, within the range that it has."
    )


def _date_time(target: Attribute, path: str, token: str) -> str:
    text = _text(target, path, token)
    if values.date_time(text) is None:
        raise errors.InvalidFilter(f"{path} can be compared with times such as 2030-01-31T23:59:59Z only.")
    return text


_READERS: Final[dict[str, Callable[[Attribute, str, str], str | int | float | bool]]] = {
    "boolean": _boolean,
    "integer": _number,
    "decimal": _number,
    "dateTime": _date_time,
}


def size(filter_: Filter) -> int:
    """Count the comparisons of a filter."""
    return sum(1 for _ in attributes(filter_))


def attributes(filter_: Filter) -> Iterator[AttributeReference]:
    """List what a filter compares, or asks the presence of."""
    match filter_:
        case And(left, right) | Or(left, right):
            yield from attributes(left)
            yield from attributes(right)
        case Not(inner) | ValuePath(_, inner):
            yield from attributes(inner)
        case Comparison(reference) | Presence(reference):
            yield reference


def implied(filter_: Filter) -> dict[str, Any] | None:
    """List the sub-attributes that the filter asks to be equal; `None` when it asks for anything else."""
    match filter_:
        case Comparison(reference, "eq", value) if value is not None:
            return {reference.target.name: value}
        case And(left, right):
            first, second = implied(left), implied(right)
            return None if first is None or second is None else {**first, **second}
        case _:
            return None
