"""Contradictions: where documents as they are stored would not be what another schema asks for.

A change of a tenant's schemas is checked with these before it is accepted: `affected` tells which resource
types are to be looked at, `find` looks at one document. Values that must be unique are no document's own
matter: the store tells. No reason quotes a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from usher_core import errors
from usher_core.scim import documents, readers
from usher_core.scim.attributes import Attribute
from usher_core.scim.schemas import Registry, ResourceType, Schema


@dataclass(frozen=True, slots=True)
class Contradiction:
    """What stands against a schema in one document: the attribute by its path, and why, in words."""

    attribute: str
    reason: str


def affected(before: Registry, after: Registry) -> list[ResourceType]:
    """List the resource types whose stored resources may contradict the registry that comes, as they are."""
    coming = {kind.name: kind for kind in after.resource_types}
    return [
        kind
        for kind in before.resource_types
        if kind.name not in coming or _asks_for_more(kind, coming[kind.name])
    ]


def _asks_for_more(before: ResourceType, after: ResourceType) -> bool:
    if before.schema.id != after.schema.id or _is_stricter(before.schema, after.schema):
        return True
    held = {extension.schema.id: extension for extension in before.extensions}
    for extension in after.extensions:
        known = held.pop(extension.schema.id, None)
        if extension.required and not (known is not None and known.required):
            return True
        if known is not None and _is_stricter(known.schema, extension.schema):
            return True
    return bool(held)


def _is_stricter(before: Schema, after: Schema) -> bool:
    """Whether anything that is stored under one schema could be refused by another one."""
    return any(
        after.attributes.get(name) is None or _differs(attribute, after.attributes[name])
        for name, attribute in before.attributes.items()
    ) or any(documents.needed(after.attributes[name]) for name in after.attributes.keys() - before.attributes)


def _differs(before: Attribute, after: Attribute) -> bool:
    # A sub-attribute that is new, and not asked for, is in no document yet.
    added = [after.sub_attributes[name] for name in after.sub_attributes.keys() - before.sub_attributes]
    return (
        _form(before) != _form(after)
        or any(sub.required for sub in added)
        or any(
            name not in after.sub_attributes or _differs(sub, after.sub_attributes[name])
            for name, sub in before.sub_attributes.items()
        )
    )


def _form(attribute: Attribute) -> tuple[Any, ...]:
    """Everything about an attribute that decides what may be stored, and how it is found again."""
    return (
        attribute.name,
        attribute.type,
        attribute.multi_valued,
        attribute.required,
        attribute.mutability == "readOnly",
        attribute.hidden,
        attribute.uniqueness != "none",
        attribute.uniqueness != "none" and attribute.case_exact,
        attribute.reference_types,
        attribute.reference_endpoints,
    )


def find(kind: ResourceType, document: Mapping[str, Any]) -> list[Contradiction]:
    """List what stands against a resource type in a document that was stored under another one."""
    found = list(_of_schema(kind.schema, document, "", kind))
    for extension in kind.extensions:
        urn = extension.schema.id
        held = document.get(urn)
        if held:
            found += _of_schema(extension.schema, held, f"{urn}:", kind)
        elif extension.required:
            found.append(Contradiction(urn, "is required and missing"))
    known = {extension.schema.id for extension in kind.extensions}
    for name in document:
        if name.lower().startswith("urn:") and name not in known:
            found.append(Contradiction(name, "is no extension of the resource type"))
    if not found:
        try:
            documents.refuse_oversized(kind, document)
        except errors.InvalidValue as exc:
            name, _, reason = exc.detail.partition(" ")
            found.append(Contradiction(name, reason.rstrip(".")))
    return found


def _of_schema(
    schema: Schema, held: Mapping[str, Any], prefix: str, kind: ResourceType
) -> Iterator[Contradiction]:
    for name, value in held.items():
        if not prefix and (name in ("schemas", "externalId") or name.lower().startswith("urn:")):
            continue
        attribute = schema.attributes.get(name.lower())
        reason = _contradicted(attribute, name, value, f"{prefix}{name}")
        if reason is not None:
            yield Contradiction(f"{prefix}{name}", reason)
    for attribute in schema.attributes.values():
        apart = not prefix and attribute.name in kind.stored_apart
        if documents.needed(attribute) and attribute.name not in held and not apart:
            yield Contradiction(f"{prefix}{attribute.name}", "is required and missing")


def _contradicted(attribute: Attribute | None, name: str, value: Any, path: str) -> str | None:
    if attribute is None:
        return "is no attribute"
    if attribute.name != name:
        return f"is called {attribute.name}"
    if attribute.hidden:
        return "is never returned, so nothing is kept of it"
    if attribute.mutability == "readOnly":
        return "is read-only, so nobody could have given it"
    try:
        read = readers.whole(attribute, path)(value)
    except errors.InvalidValue as exc:
        return exc.detail.removeprefix(path).removeprefix(".").strip().rstrip(".")
    # What would be read as something else would have to be stored as that.
    return None if read == value and type(read) is type(value) else "is of another form"
