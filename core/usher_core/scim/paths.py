"""Paths of PATCH operations (RFC 7644 §3.5.2): `attr`, `attr.sub`, `attr[filter]`, `attr[filter].sub`.

`patches` parses each path once when the operation arrives and once when it is applied, hence the cache. The
URN of an extension alone is a path too: it stands for all that the extension holds.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from typing import Final

from usher_core import errors
from usher_core.scim import filters, references, values
from usher_core.scim.filters import Filter
from usher_core.scim.references import AttributeReference
from usher_core.scim.schemas import ResourceType

MAX_LENGTH: Final = 8192


@dataclass(frozen=True, slots=True)
class Path:
    """What an operation is aimed at; with a filter, the sub-attribute of the reference is what follows `]`.

    `text` is the path with the names in their canonical form; a filter stays as it was written.
    """

    reference: AttributeReference
    filter: Filter | None
    text: str


@functools.lru_cache(maxsize=2048)
def parse(text: str, resource_type: ResourceType) -> Path:
    """Read a path.

    Raises:
        InvalidPath: it is malformed or names no known attribute.
        InvalidFilter: the filter in its brackets is wrong (RFC 7644 §3.12, table 9).
    """
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise errors.InvalidPath(f"The path is longer than {MAX_LENGTH} characters.")
    if values.unstorable(text):
        raise errors.InvalidPath("The path holds a character that no name or value can hold.")
    name, bracket, rest = text.partition("[")
    if not bracket:
        reference = _resolve(text, resource_type)
        return Path(reference, None, reference.path)
    reference = _resolve(name.strip(), resource_type)
    filters.require_elements(reference, errors.InvalidPath)
    inner, closing, tail = rest.rpartition("]")
    if not closing or not inner.strip():
        raise errors.InvalidPath(f"{reference.path}[ is not followed by a filter and ].")
    condition = filters.parse_inside(inner, reference, resource_type)
    written = f"{reference.path}[{inner.strip()}]"
    tail = tail.strip()
    if not tail:
        return Path(reference, condition, written)
    sub = reference.attribute.sub_attribute(tail[1:]) if tail.startswith(".") else None
    if sub is None:
        raise errors.InvalidPath(f"{references.shown(tail)} after ] is no sub-attribute of {reference.path}.")
    return Path(dataclasses.replace(reference, sub_attribute=sub), condition, f"{written}.{sub.name}")


def _resolve(name: str, resource_type: ResourceType) -> AttributeReference:
    if not name:
        raise errors.InvalidPath("The path is empty.")
    reference = references.resolve(name, resource_type)
    if reference is None:
        raise errors.InvalidPath(references.describe_unknown(name, resource_type))
    return reference
