"""Members of a group, and what a PATCH does with them.

A group's members are rows, not part of its document, so that a change of one costs the same in a group of
ten and of 100,000. `patches` makes these operations, `documents` takes members out of a body; whoever keeps
the rows applies them in order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from usher_core import errors
from usher_core.scim import conditions, values
from usher_core.scim.filters import Comparison, Filter, Or
from usher_core.scim.schemas import Attribute

# In one message; a group may have any number, and a body of the usual limit holds fewer members with our ids.
MAX_MEMBERS: Final = 22_000
_NAMES: Final = frozenset({"value", "$ref", "type", "display"})


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
    types = _types(attribute)
    found: dict[str, dict[str, Any]] = {}
    for item in _listed(attribute, value):
        if item is not None:
            member = _member(attribute, types, item)
            found.setdefault(member["value"], member)
    return list(found.values())


def read_values(attribute: Attribute, value: Any) -> list[str]:
    """Read the ids of members to be removed; what is malformed counts as not given."""
    types = _types(attribute)
    found: dict[str, None] = {}
    for item in _listed(attribute, value):
        if isinstance(item, str | dict):
            try:
                found[_member(attribute, types, item)["value"]] = None
            except errors.InvalidValue:
                continue
    return list(found)


def _listed(attribute: Attribute, value: Any) -> list[Any]:
    listed = value if isinstance(value, list) else [value]
    refuse_many(attribute.name, len(listed))
    return listed


def refuse_many(name: str, number: int) -> None:
    """Refuse more members than one message may list.

    Raises:
        InvalidValue: says so.
    """
    if number > MAX_MEMBERS:
        raise errors.InvalidValue(f"{name}: more than {MAX_MEMBERS} values in one message; send several.")


def types(attribute: Attribute) -> tuple[str, ...]:
    """List the resource types whose resources may be members (RFC 7643 §7, `referenceTypes`)."""
    reference = attribute.sub_attribute("$ref")
    return () if reference is None else reference.reference_types


def load(documents: list[dict[str, Any]]) -> tuple[Member, ...]:
    """Make members of their stored form."""
    return tuple(Member(item["value"], item.get("type", "User"), item.get("display")) for item in documents)


def _types(attribute: Attribute) -> dict[str, str]:
    sub = attribute.sub_attribute("type")
    return {name.lower(): name for name in (sub.canonical_values if sub is not None else ())}


def _member(attribute: Attribute, types: dict[str, str], item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        fields = {"value": item}
    elif isinstance(item, dict):
        # Nearly all are spelt as the schema has it.
        fields = item if _NAMES.issuperset(item) else {key.lower(): value for key, value in item.items()}
    else:
        raise values.expected(attribute.name, "a list of objects", item)
    member = {"value": _text(attribute, "value", fields.get("value")), "type": "User"}
    if not member["value"]:
        raise errors.InvalidValue(f"{attribute.name}.value is required.")
    if len(fields) == 1:
        return member
    type_ = fields.get("type")
    if type_:
        text = _text(attribute, "type", type_)
        member["type"] = types.get(text.lower(), text)
    display = fields.get("display")
    if display is not None:
        member["display"] = _text(attribute, "display", display)
    return member


def _text(attribute: Attribute, name: str, value: Any) -> str:
    if isinstance(value, str):
        if value.isascii() and "\0" not in value:
            return value
        flaw = values.unstorable(value)
        if flaw is None:
            return value
        raise errors.InvalidValue(f"{attribute.name}.{name} holds {flaw}, which can't be stored.")
    if value is None:
        return ""
    raise values.expected(f"{attribute.name}.{name}", "a string", value)


def refuse_computed(filter_: Filter) -> None:
    """Refuse to choose members by their URL: it is made for each answer, and no row has it.

    Raises:
        InvalidFilter: the filter asks for it.
    """
    for reference in conditions.attributes(filter_):
        if reference.target.name == "$ref":
            raise errors.InvalidFilter(
                f"{reference.path} is made by the service for each answer: compare {reference.attribute.name}"
                ".value."
            )


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
