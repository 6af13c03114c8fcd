"""Names of attributes, as filters, paths, projections and flat keys write them (RFC 7644 §3.10).

One resolver for all of them, so that a name means the same everywhere: any case, with or without the URN of
its schema, with or without a sub-attribute.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from usher_core.scim.schemas import COMMON_ATTRIBUTES, Attribute, ResourceType, Schema

_LONGEST_COMPARED: Final = 64


@dataclass(frozen=True, slots=True)
class AttributeReference:
    """An attribute or sub-attribute that a name stands for; `urn` is its extension, `None` for the core.

    An extension as a whole is the complex attribute, named by the URN, that holds it in a document.
    """

    urn: str | None
    attribute: Attribute
    sub_attribute: Attribute | None = None

    @property
    def target(self) -> Attribute:
        """The sub-attribute if there is one, else the attribute."""
        return self.sub_attribute or self.attribute

    @property
    def is_extension(self) -> bool:
        """Whether it is an extension as a whole: no name of an attribute has a colon."""
        return ":" in self.attribute.name

    @property
    def path(self) -> str:
        """The canonical name, such as `emails.value` or `urn:…:User:manager.value`."""
        path = self.attribute.name if self.urn is None else f"{self.urn}:{self.attribute.name}"
        return path if self.sub_attribute is None else f"{path}.{self.sub_attribute.name}"


def resolve(text: str, resource_type: ResourceType) -> AttributeReference | None:
    """Find what a name stands for; `None` when nothing is known by it."""
    lowered = text.lower()
    whole = resource_type.extension_attributes.get(lowered)
    if whole is not None:
        return AttributeReference(None, whole)
    if lowered.startswith("urn:"):
        return _qualified(lowered, resource_type)
    name, _, sub = lowered.partition(".")
    attribute = resource_type.attribute(name)
    if attribute is not None:
        return _with_sub(None, attribute, sub, dotted="." in lowered)
    # Entra ID writes `manager` without its URN.
    found = resource_type.extension_attribute(name)
    return None if found is None else _with_sub(*found, sub, dotted="." in lowered)


def _qualified(lowered: str, resource_type: ResourceType) -> AttributeReference | None:
    for schema in resource_type.schemas:
        prefix = f"{schema.id.lower()}:"
        if lowered.startswith(prefix):
            name, dot, sub = lowered[len(prefix) :].partition(".")
            core = schema is resource_type.schema
            attribute = resource_type.attribute(name) if core else schema.attribute(name)
            if attribute is not None:
                return _with_sub(None if core else schema.id, attribute, sub, dotted=bool(dot))
    return None


def _with_sub(urn: str | None, attribute: Attribute, sub: str, *, dotted: bool) -> AttributeReference | None:
    if not dotted:
        return AttributeReference(urn, attribute)
    sub_attribute = attribute.sub_attribute(sub)
    return None if sub_attribute is None else AttributeReference(urn, attribute, sub_attribute)


def describe_unknown(text: str, resource_type: ResourceType) -> str:
    """Say that a name is not known, and which known one is nearest."""
    lowered = text.lower()
    for schema in resource_type.schemas:
        if schema.id and lowered.startswith(f"{schema.id.lower()}:"):
            bare, owner = text[len(schema.id) + 1 :], schema.id
            return describe_unknown_among(bare, _names_of(schema), owner)
    # Of a URN that is not known, the name behind it may be.
    bare = text.rpartition(":")[2] if lowered.startswith("urn:") else text
    return _described(text, bare, _names(resource_type), resource_type.name)


def describe_unknown_among(text: str, known: Iterable[str], owner: str) -> str:
    """Say that a name is not one of those known, and which of them is nearest, however far that is."""
    return _described(text, text, known, owner)


def _described(text: str, bare: str, known: Iterable[str], owner: str) -> str:
    names = {name.lower(): name for name in known}
    # No name is much longer; to tell how alike two are takes the square of their length.
    lowered = bare[:_LONGEST_COMPARED].lower()
    hint = "."
    if close := difflib.get_close_matches(lowered, names, 1):
        hint = f"; did you mean {names[close[0]]}?"
    elif names:
        hint = f"; the nearest name is {names[_nearest(lowered, names)]}."
    return f"{shown(text)} is no attribute of {owner}{hint}"


def _nearest(text: str, names: Iterable[str]) -> str:
    """Pick the name that has most letters in common, in any order: of names so unlike it tells nothing."""
    matcher = difflib.SequenceMatcher(b=text, autojunk=False)

    def likeness(name: str) -> float:
        matcher.set_seq1(name)
        return matcher.quick_ratio()

    return max(names, key=likeness)


def shown(text: str) -> str:
    """Make a client's text fit for an error: of bounded length, and always encodable."""
    short = text if len(text) <= 80 else f"{text[:80]}…"
    return short.encode("utf-8", "replace").decode()


def _names(resource_type: ResourceType) -> Iterator[str]:
    yield from ("id", "externalId", "meta")
    yield from (f"meta.{sub.name}" for sub in COMMON_ATTRIBUTES["meta"].sub_attributes.values())
    for schema in resource_type.schemas:
        yield from _names_of(schema)


def _names_of(schema: Schema) -> Iterator[str]:
    for attribute in schema.attributes.values():
        if not attribute.hidden:
            yield attribute.name
            yield from (f"{attribute.name}.{sub.name}" for sub in attribute.sub_attributes.values())
