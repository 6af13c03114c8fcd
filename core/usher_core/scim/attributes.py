"""Attributes and their characteristics, and their JSON form (RFC 7643 §2.2, §7).

`schemas` builds schemas from these; every other module reads them. Nothing is known of an attribute but what
is written here, and names are looked up without regard to case (RFC 7643 §2.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast, get_args

from usher_core import errors

Type = Literal["string", "boolean", "decimal", "integer", "dateTime", "binary", "reference", "complex"]
Mutability = Literal["readOnly", "readWrite", "immutable", "writeOnly"]
Returned = Literal["always", "never", "default", "request"]
Uniqueness = Literal["none", "server", "global"]

_NAME = re.compile(r"\$?[A-Za-z][A-Za-z0-9_$-]*\Z")  # RFC 7643 §2.1, and $ref


@dataclass(frozen=True, slots=True)
class Attribute:
    """An attribute, or a sub-attribute, with its characteristics (RFC 7643 §2.2, §7)."""

    name: str
    type: Type = "string"
    multi_valued: bool = False
    required: bool = False
    case_exact: bool = False
    mutability: Mutability = "readWrite"
    returned: Returned = "default"
    uniqueness: Uniqueness = "none"
    canonical_values: tuple[str, ...] = ()
    reference_types: tuple[str, ...] = ()
    reference_endpoints: tuple[str, ...] = ()
    """Where the resource types among `reference_types` are served, in lower case; no schema says it."""
    description: str = ""
    sub_attributes: Mapping[str, Attribute] = field(default_factory=dict, hash=False)

    def sub_attribute(self, name: str) -> Attribute | None:
        """Find a sub-attribute by its name in any case."""
        return self.sub_attributes.get(name.lower())

    @property
    def value(self) -> Attribute | None:
        """The sub-attribute `value`, which stands for the whole where only one value is given."""
        return self.sub_attributes.get("value")

    @property
    def hidden(self) -> bool:
        """Whether the attribute is taken in but never kept or shown, like a password."""
        return self.returned == "never" or self.mutability == "writeOnly"


def _by_name(*attributes: Attribute) -> dict[str, Attribute]:
    return {attribute.name.lower(): attribute for attribute in attributes}


# RFC 7643 §3 and §3.1: every resource has these, and no schema lists them.
COMMON_ATTRIBUTES: Final[Mapping[str, Attribute]] = _by_name(
    # The service computes them from the content.
    Attribute(
        "schemas", "reference", multi_valued=True, case_exact=True, mutability="readOnly", returned="always"
    ),
    Attribute("id", case_exact=True, mutability="readOnly", returned="always", uniqueness="server"),
    Attribute("externalId", case_exact=True),
    Attribute(
        "meta",
        "complex",
        mutability="readOnly",
        sub_attributes=_by_name(
            Attribute("resourceType", case_exact=True, mutability="readOnly"),
            Attribute("created", "dateTime", mutability="readOnly"),
            Attribute("lastModified", "dateTime", mutability="readOnly"),
            Attribute("location", "reference", case_exact=True, mutability="readOnly"),
            Attribute("version", case_exact=True, mutability="readOnly"),
        ),
    ),
)


def load_attributes(
    document: dict[str, Any],
    key: str,
    owner: str,
    endpoints: Mapping[str, str],
    *,
    nested: int,
    joint: str = ":",
) -> dict[str, Attribute]:
    """Read the attributes listed under a key, complex ones `nested` levels deep.

    `owner` and `joint` stand before an attribute's name in errors; `endpoints` tells where resource types are
    served.

    Raises:
        InvalidValue: something in the list is no attribute; the detail names it.
    """
    listed = document.get(key)
    if not isinstance(listed, list) or not listed:
        raise errors.InvalidValue(f"{owner}: {key} must be a list of at least one attribute.")
    attributes: dict[str, Attribute] = {}
    for item in listed:
        attribute = _attribute(item, owner, joint, endpoints, nested=nested)
        if attribute.name.lower() in attributes:
            raise errors.InvalidValue(f"{owner}: the attribute {attribute.name} is defined twice.")
        attributes[attribute.name.lower()] = attribute
    return attributes


def _attribute(
    document: Any, owner: str, joint: str, endpoints: Mapping[str, str], *, nested: int
) -> Attribute:
    if not isinstance(document, dict):
        raise errors.InvalidValue(f"{owner}: each attribute must be a JSON object.")
    name = read_text(document, "name", owner, required=True)
    if not _NAME.match(name):
        raise errors.InvalidValue(f"{owner}: {name!a} is no name for an attribute.")
    path = f"{owner}{joint}{name}"
    type_ = cast(Type, _choice(document, "type", path, get_args(Type), "string"))
    if type_ == "complex" and nested == 0:
        raise errors.InvalidValue(f"{path}: a sub-attribute can't be complex.")
    subs: dict[str, Attribute] = {}
    if type_ == "complex":
        subs = load_attributes(document, "subAttributes", path, endpoints, nested=nested - 1, joint=".")
    reference_types = _texts(document, "referenceTypes", path)
    return Attribute(
        name,
        type_,
        multi_valued=read_flag(document, "multiValued", path),
        required=read_flag(document, "required", path),
        case_exact=read_flag(document, "caseExact", path),
        mutability=cast(Mutability, _choice(document, "mutability", path, get_args(Mutability), "readWrite")),
        returned=cast(Returned, _choice(document, "returned", path, get_args(Returned), "default")),
        uniqueness=cast(Uniqueness, _choice(document, "uniqueness", path, get_args(Uniqueness), "none")),
        canonical_values=_texts(document, "canonicalValues", path),
        reference_types=reference_types,
        reference_endpoints=tuple(endpoints[name].lower() for name in reference_types if name in endpoints),
        description=read_text(document, "description", path),
        sub_attributes=subs,
    )


def read_text(document: dict[str, Any], key: str, owner: str, *, required: bool = False) -> str:
    """Read a string; a missing one is empty unless it is required."""
    value = document.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or (required and not value):
        raise errors.InvalidValue(f"{owner}: {key} must be a string{' and not empty' if required else ''}.")
    return value


def _texts(document: dict[str, Any], key: str, owner: str) -> tuple[str, ...]:
    value = document.get(key) or []
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise errors.InvalidValue(f"{owner}: {key} must be a list of strings.")
    return tuple(value)


def read_flag(document: dict[str, Any], key: str, owner: str) -> bool:
    """Read true or false; a missing one is false."""
    value = document.get(key, False)
    if not isinstance(value, bool):
        raise errors.InvalidValue(f"{owner}: {key} must be true or false.")
    return value


def _choice(document: dict[str, Any], key: str, owner: str, choices: tuple[str, ...], default: str) -> str:
    value = document.get(key, default)
    if value not in choices:
        raise errors.InvalidValue(f"{owner}: {key} must be one of {', '.join(choices)}.")
    return str(value)


def dump_attribute(attribute: Attribute) -> dict[str, Any]:
    """Write an attribute in its JSON form."""
    document: dict[str, Any] = {
        "name": attribute.name,
        "type": attribute.type,
        "multiValued": attribute.multi_valued,
        "description": attribute.description,
        "required": attribute.required,
        "caseExact": attribute.case_exact,
        "mutability": attribute.mutability,
        "returned": attribute.returned,
        "uniqueness": attribute.uniqueness,
    }
    if attribute.canonical_values:
        document["canonicalValues"] = list(attribute.canonical_values)
    if attribute.reference_types:
        document["referenceTypes"] = list(attribute.reference_types)
    if attribute.sub_attributes:
        document["subAttributes"] = [dump_attribute(sub) for sub in attribute.sub_attributes.values()]
    return document
