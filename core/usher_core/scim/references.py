"""Names of attributes, as filters, paths, projections and flat keys write them (RFC 7644 §3.10).

One resolver for all of them, so that a name means the same everywhere: any case, with or without the URN of
its schema, with or without a sub-attribute.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import dataclass

from usher_core.scim.schemas import COMMON_ATTRIBUTES, Attribute, ResourceType, Schema


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
    return describe_unknown_among(text, _names(resource_type), resource_type.name)


def describe_unknown_among(text: str, known: Iterator[str], owner: str) -> str:
    """Say that a name is not one of those known, and which of them is nearest."""
    names = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(text[:200].lower(), names, 1)
    hint = f"; did you mean {names[nearest[0]]}?" if nearest else "."
    return f"{shown(text)} is no attribute of {owner}{hint}"


def shown(text: str) -> str:
    """Make a client's text fit for an error: of bounded length, and always encodable."""
    short = text if len(text) <= 80 else f"{text[:80]}…"
    return short.encode("utf-8", "replace").decode()


def _names(resource_type: ResourceType) -> Iterator[str]:
    yield from ("id", "externalId", "meta")
    yield from (f"meta.{sub.name}" for sub in COMMON_ATTRIBUTES["meta"].sub_attributes.values())
    for schema in resource_type.schemas:
        yield from _names_of(schema, "" if schema is resource_type.schema else f"{schema.id}:")


def _names_of(schema: Schema, prefix: str) -> Iterator[str]:
    for attribute in schema.attributes.values():
        if attribute.hidden:
            continue
        for start in {"", prefix}:
            yield f"{start}{attribute.name}"
            for sub in attribute.sub_attributes.values():
                yield f"{start}{attribute.name}.{sub.name}"
