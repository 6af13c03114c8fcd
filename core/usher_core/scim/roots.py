"""Queries of every resource type at once, as at the server's root (RFC 7644 §3.4.2.1).

A filter or a `sortBy` there is read once, in the light of all types together; then it is narrowed to each of
them. An attribute that a type does not have, or has of another type, is one without a value: what is asked of
it is decided here, so that nobody looks for it among what the type does have.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable

from usher_core.scim import evaluations, references
from usher_core.scim.filters import And, Comparison, Filter, Not, Or, Presence, ValuePath
from usher_core.scim.references import AttributeReference
from usher_core.scim.schemas import Attribute, Extension, Registry, ResourceType, Schema


@functools.lru_cache(maxsize=1024)
def everything(registry: Registry) -> ResourceType:
    """Make the type that has the attributes of all types; of equal names the first one counts."""
    attributes: dict[str, Attribute] = {}
    held: dict[str, Schema] = {}
    for resource_type in registry.resource_types:
        for name, attribute in resource_type.schema.attributes.items():
            attributes.setdefault(name, attribute)
        # Each schema is held as an extension, so that names qualified by its URN are known too.
        held.update((schema.id, schema) for schema in resource_type.schemas)
    return ResourceType(
        "resource",
        "",
        "",
        Schema("", "resource", attributes=attributes),
        tuple(map(Extension, held.values())),
    )


def narrow_reference(reference: AttributeReference, resource_type: ResourceType) -> AttributeReference | None:
    """Find what a name stands for in one type; `None` when it has no such attribute of the same type."""
    found = references.resolve(reference.path, resource_type)
    return found if found is not None and found.target.type == reference.target.type else None


def narrow(filter_: Filter, resource_types: Iterable[ResourceType]) -> dict[ResourceType, Filter | None]:
    """Read a filter on everything as one for each type: `None` selects all of it.

    A type of which nothing can match is left out.
    """
    narrowed = {resource_type: _narrowed(filter_, resource_type) for resource_type in resource_types}
    return {
        resource_type: None if found is True else found
        for resource_type, found in narrowed.items()
        if found is not False
    }


def _narrowed(filter_: Filter, resource_type: ResourceType) -> Filter | bool:
    """Read a filter on everything as one on a type; a boolean where the type alone decides."""
    match filter_:
        case And(left, right):
            return _both(_narrowed(left, resource_type), _narrowed(right, resource_type))
        case Or(left, right):
            return _either(_narrowed(left, resource_type), _narrowed(right, resource_type))
        case Not(inner):
            found = _narrowed(inner, resource_type)
            return not found if isinstance(found, bool) else Not(found)
        case ValuePath(reference, inner):
            scope = narrow_reference(reference, resource_type)
            return scope is not None and _some(scope, _narrowed(inner, resource_type))
        case Comparison(reference) | Presence(reference):
            there = narrow_reference(reference, resource_type)
            if there is None:
                return evaluations.matches(filter_, {})
            return dataclasses.replace(filter_, attribute=there)


def _both(left: Filter | bool, right: Filter | bool) -> Filter | bool:
    if isinstance(left, bool):
        return left and right
    if isinstance(right, bool):
        return right and left
    return And(left, right)


def _either(left: Filter | bool, right: Filter | bool) -> Filter | bool:
    if isinstance(left, bool):
        return left or right
    if isinstance(right, bool):
        return right or left
    return Or(left, right)


def _some(scope: AttributeReference, inner: Filter | bool) -> Filter | bool:
    """Say that a value of an attribute matches; where any does, that there is one."""
    if isinstance(inner, bool):
        return inner and Comparison(scope, "ne", None)
    return ValuePath(scope, inner)
