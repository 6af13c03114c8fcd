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
from usher_core.scim import conditions, filters, references, values
from usher_core.scim.filters import Filter
from usher_core.scim.references import AttributeReference
from usher_core.scim.schemas import ResourceType

MAX_LENGTH: Final = 8192
# Longer ones are read anew each time: a cache of them would hold the memory that a client likes.
_KEPT_LENGTH: Final = 256


@dataclass(frozen=True, slots=True)
class Path:
    """What an operation is aimed at; with a filter, the sub-attribute of the reference is what follows `]`.

    `text` is the path with the names in their canonical form; a filter stays as it was written, and has
    `comparisons`.
    """

    reference: AttributeReference
    filter: Filter | None
    text: str
    comparisons: int = 0


def parse(text: str, resource_type: ResourceType) -> Path:
    """Read a path.

    Raises:
        InvalidPath: it is malformed or names no known attribute.
        InvalidFilter: the filter in its brackets is wrong (RFC 7644 §3.12, table 9).
    """
    return _parse_kept(text, resource_type) if len(text) <= _KEPT_LENGTH else _parse(text, resource_type)


def names_known(text: str, resource_type: ResourceType) -> bool:
    """Whether a path begins with the name of an attribute; `parse` takes its time to say that it doesn't."""
    return references.resolve(text.partition("[")[0].strip(), resource_type) is not None


def _parse(text: str, resource_type: ResourceType) -> Path:
    text = text.strip()
    if len(text) > MAX_LENGTH:
        raise errors.InvalidPath(f"The path is longer than {MAX_LENGTH} characters.")
    flaw = values.unstorable(text)
    if flaw is not None:
        raise errors.InvalidPath(f"The path holds {flaw}, which no name or value can hold.")
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
    comparisons = conditions.size(condition)
    written = f"{reference.path}[{inner.strip()}]"
    tail = tail.strip()
    if not tail:
        return Path(reference, condition, written, comparisons)
    sub = reference.attribute.sub_attribute(tail[1:]) if tail.startswith(".") else None
    if sub is None:
        raise errors.InvalidPath(f"{references.shown(tail)} after ] is no sub-attribute of {reference.path}.")
    reference = dataclasses.replace(reference, sub_attribute=sub)
    return Path(reference, condition, f"{written}.{sub.name}", comparisons)


_parse_kept = functools.lru_cache(maxsize=2048)(_parse)


def _resolve(name: str, resource_type: ResourceType) -> AttributeReference:
    if not name:
        raise errors.InvalidPath("The path is empty.")
    reference = references.resolve(name, resource_type)
    if reference is None:
        raise errors.InvalidPath(references.describe_unknown(name, resource_type))
    return reference
