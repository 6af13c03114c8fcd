"""Members of a group, and what a PATCH does with them.

A group's members are rows, not part of its document, so that a change of one costs the same in a group of
ten and of 100,000. `patches` makes these operations, `documents` takes members out of a body; whoever keeps
the rows applies them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from usher_core import errors
from usher_core.scim import values
from usher_core.scim.filters import Comparison, Filter, Or
from usher_core.scim.schemas import Attribute


@dataclass(frozen=True, slots=True)
class Member:
    """One member: the id of a user or a group, and the name that the client gave it."""

    value: str
    type: str = "User"
    display: str | None = None


@dataclass(frozen=True, slots=True)
class MembersAdded:
    """The members join; those who are members already stay as they are."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class MembersRemoved:
    """The members with these ids leave; ids of others change nothing."""

    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MembersRemovedWhere:
    """The members that match the filter leave."""

    filter: Filter


@dataclass(frozen=True, slots=True)
class MembersReplaced:
    """These are the members from now on, and nobody else."""

    members: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class MembersCleared:
    """All members leave."""


MemberOperation = MembersAdded | MembersRemoved | MembersRemovedWhere | MembersReplaced | MembersCleared


def read(attribute: Attribute, value: Any) -> list[dict[str, Any]] | None:
    """Bring a client's list of members to its stored form; `None` when it gives none at all (null).

    The first of those with the same id wins. Raises `InvalidValue` for a member without an id.
    """
    if value is None:
        return None
    listed = value if isinstance(value, list) else [value]
    found: dict[str, dict[str, Any]] = {}
    for item in listed:
        if item is not None:
            member = _member(attribute, item)
            found.setdefault(member["value"], member)
    return list(found.values())


def read_values(attribute: Attribute, value: Any) -> list[str]:
    """Read the ids of members to be removed; what is malformed counts as not given."""
    listed = value if isinstance(value, list) else [value]
    found: dict[str, None] = {}
    for item in listed:
        try:
            found[_member(attribute, item)["value"]] = None
        except errors.InvalidValue:
            continue
    return list(found)


def load(documents: list[dict[str, Any]]) -> tuple[Member, ...]:
    """Make members of their stored form."""
    return tuple(Member(item["value"], item.get("type", "User"), item.get("display")) for item in documents)


def _member(attribute: Attribute, item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        item = {"value": item}
    if not isinstance(item, dict):
        raise values.expected(attribute.name, "a list of objects", item)
    fields = {key.lower(): value for key, value in item.items()}
    path = attribute.name
    member = {"value": _text(fields.get("value"), f"{path}.value")}
    if not member["value"]:
        raise errors.InvalidValue(f"{path}.value is required.")
    type_ = fields.get("type")
    member["type"] = _canonical(attribute, _text(type_, f"{path}.type")) if type_ else "User"
    display = fields.get("display")
    if display is not None:
        member["display"] = _text(display, f"{path}.display")
    return member


def _text(value: Any, path: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise values.expected(path, "a string", value)
    if values.unstorable(value):
        raise errors.InvalidValue(f"{path} holds a character that can't be stored.")
    return value


def _canonical(attribute: Attribute, text: str) -> str:
    sub = attribute.sub_attribute("type")
    known = sub.canonical_values if sub is not None else ()
    return next((name for name in known if name.lower() == text.lower()), text)


def named_values(filter_: Filter) -> tuple[str, ...] | None:
    """List the ids that a filter names one by one, as `value eq "u1" or value eq "u2"`; else `None`."""
    match filter_:
        case Comparison(reference, "eq", str(value)) if reference.target.name == "value":
            return (value,)
        case Or(left, right):
            first, second = named_values(left), named_values(right)
            return None if first is None or second is None else tuple(dict.fromkeys((*first, *second)))
        case _:
            return None
