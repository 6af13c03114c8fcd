"""Queries of every resource type at once, as at the server's root (RFC 7644 §3.4.2.1).

A filter or a `sortBy` there is read once, in the light of all types together; then it is narrowed to each of
them. An attribute that a type does not have is one without a value.
"""

from __future__ import annotations

import dataclasses
import functools

from usher_core.scim import references
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


def narrow_reference(reference: AttributeReference, resource_type: ResourceType) -> AttributeReference:
    """Find what a name stands for in one type; a name that it does not have stays as it is."""
    found = references.resolve(reference.path, resource_type)
    return found if found is not None and found.target.type == reference.target.type else reference


def narrow(filter_: Filter, resource_type: ResourceType) -> Filter:
    """Read a filter on everything as one on resources of one type."""
    match filter_:
        case And(left, right):
            return And(narrow(left, resource_type), narrow(right, resource_type))
        case Or(left, right):
            return Or(narrow(left, resource_type), narrow(right, resource_type))
        case Not(inner):
            return Not(narrow(inner, resource_type))
        case ValuePath(reference, inner):
            return ValuePath(narrow_reference(reference, resource_type), narrow(inner, resource_type))
        case Comparison(reference) | Presence(reference):
            return dataclasses.replace(filter_, attribute=narrow_reference(reference, resource_type))
