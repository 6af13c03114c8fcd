"""Readers: compiled from an attribute once, they bring what a client sent to the form that is stored.

`documents` reads whole bodies with them, `patches` the value of one operation. A reader returns `None` for
what is unassigned (null, an empty array: RFC 7643 §2.5) and raises `InvalidValue` naming the path. It never
changes what it is given. Where it is more tolerant than the RFC, the line names the client.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Final

import orjson

from usher_core import errors
from usher_core.scim import repetitions, values
from usher_core.scim.schemas import Attribute
from usher_core.scim.values import Checker

Reader = Checker

# Elements of a multi-valued attribute, members of a group apart.
MAX_ELEMENTS: Final = 1000

# What sub-attributes are called by some clients, by attribute and lower-case name.
_ALIASES: Final[Mapping[str, Mapping[str, str]]] = {
    "manager": {"managerid": "value"},  # OneLogin: the name of SCIM 1.1
    "roles": {"displayname": "display"},  # Entra ID
}


@functools.lru_cache(maxsize=4096)
def whole(attribute: Attribute, path: str) -> Reader:
    """Make the reader for all that an attribute holds: a list if it is multi-valued."""
    if attribute.multi_valued:
        return _many(attribute, path)
    if attribute.type == "complex":
        return _complex(attribute, path, keep_null=False)
    return _single(attribute, path)


@functools.lru_cache(maxsize=4096)
def element(attribute: Attribute, path: str) -> Reader:
    """Make the reader for one value of a multi-valued attribute."""
    if attribute.type == "complex":
        return _complex(attribute, path, keep_null=False)
    return _single(attribute, path)


@functools.lru_cache(maxsize=4096)
def partial(attribute: Attribute, path: str) -> Reader:
    """Make the reader for an object that is merged into a complex value: its nulls stay, to unassign."""
    return _complex(attribute, path, keep_null=True)


def part(attribute: Attribute, sub: Attribute, path: str) -> Reader:
    """Make the reader for one sub-attribute alone, as it would be read within the whole."""
    read = whole(sub, path)
    if not _is_packed(attribute) or sub is not attribute.value:
        return read
    return lambda value: read(_parsed({"value": value})["value"])


def _single(attribute: Attribute, path: str) -> Reader:
    check = values.checker(attribute, path)
    if attribute.required:
        return _filled(check, path)

    def read(value: Any) -> Any:
        return None if value is None or value == [] else check(value)

    return read


def _filled(check: Reader, path: str) -> Reader:
    def read(value: Any) -> Any:
        if value is None or value == []:
            return None
        read_value = check(value)
        if isinstance(read_value, str) and not read_value.strip():
            raise errors.InvalidValue(f"{path} is required and must not be empty.")
        return read_value

    return read


def _many(attribute: Attribute, path: str) -> Reader:
    read_element = element(attribute, path)

    def read(value: Any) -> list[Any] | None:
        if value is None:
            return None
        # A client that has one value may send it without the array.
        listed = value if isinstance(value, list) else [value]
        refuse_many(listed, path)
        result = [element for item in listed if (element := read_element(item)) is not None]
        if len(result) > 1:
            result = repetitions.once(attribute, result)
            if sum(isinstance(element, dict) and element.get("primary") is True for element in result) > 1:
                raise errors.InvalidValue(f"{path}.primary can be true for one value only.")  # RFC 7643 §2.4
        return result or None

    return read


def refuse_many(listed: list[Any], path: str) -> None:
    """Refuse a list that is longer than any attribute's may be, before a look at what it holds."""
    if len(listed) > MAX_ELEMENTS:
        raise errors.InvalidValue(f"{path} has more than {MAX_ELEMENTS} values.")


def _complex(attribute: Attribute, path: str, *, keep_null: bool) -> Reader:
    subs = _sub_readers(attribute, path)
    required = [sub.name for sub in attribute.sub_attributes.values() if sub.required and not sub.hidden]
    has_value = attribute.value is not None
    drops_empty = has_value and not attribute.multi_valued
    is_packed = _is_packed(attribute)

    def read(value: Any) -> dict[str, Any] | None:
        if not isinstance(value, dict):
            value = _as_object(value, path, has_value=has_value, multi_valued=attribute.multi_valued)
            if value is None:
                return None
        if is_packed:
            value = _parsed(value)
        result: dict[str, Any] = {}
        for key, item in value.items():
            sub = subs.get(key) or subs.get(key.lower())
            if sub is None:
                continue
            name, read_sub = sub
            read_item = read_sub(item)
            if read_item is not None or (keep_null and (item is None or item == [])):
                result[name] = read_item
        if required and not keep_null:
            _require(required, result, path)
        if drops_empty and result.get("value") == "":
            return None  # an empty `manager.value` is no manager
        return result or None

    return read


def _sub_readers(attribute: Attribute, path: str) -> dict[str, tuple[str, Reader]]:
    subs: dict[str, tuple[str, Reader]] = {}
    for lowered, sub in attribute.sub_attributes.items():
        if sub.mutability == "readOnly":
            continue  # RFC 7644 §3.5.1: a client's values for it are ignored
        read = whole(sub, f"{path}.{sub.name}")
        subs[lowered] = subs[sub.name] = (sub.name, discarding(read) if sub.hidden else read)
    for alias, name in _ALIASES.get(attribute.name, {}).items():
        if name in subs:
            subs[alias] = subs[name]
    return subs


def discarding(read: Reader) -> Reader:
    """Make a reader that checks a value and keeps nothing of it, for passwords."""

    def discard(value: Any) -> None:
        read(value)

    return discard


def denying(read: Reader) -> Reader:
    """Make a reader for which null is false: taking a flag away takes away what it allows."""

    def deny(value: Any) -> Any:
        given = read(value)
        return False if given is None else given

    return deny


def _as_object(value: Any, path: str, *, has_value: bool, multi_valued: bool) -> dict[str, Any] | None:
    if value is None or value == []:
        return None
    if isinstance(value, list) and not multi_valued and len(value) == 1 and isinstance(value[0], dict | str):
        value = value[0]  # Entra ID sends `manager` as an array of one
        if isinstance(value, dict):
            return value
    if isinstance(value, str) and has_value:
        # Entra ID sends `manager` as a string, and an empty one to remove it.
        return {"value": value} if value or multi_valued else None
    raise values.expected(path, "an object", value)


def _is_packed(attribute: Attribute) -> bool:
    return attribute.name == "roles"  # Entra ID sends each app role as JSON in a string


def _parsed(value: dict[str, Any]) -> dict[str, Any]:
    while True:
        packed = value.get("value")
        if not isinstance(packed, str) or not packed.lstrip().startswith("{"):
            return value
        try:
            unpacked = orjson.loads(packed)
        except ValueError:
            return value
        if "value" not in unpacked:
            return value
        value = {**value, **unpacked}


def _require(required: list[str], result: dict[str, Any], path: str) -> None:
    for name in required:
        if name not in result:
            raise errors.InvalidValue(f"{path}.{name} is required.")
