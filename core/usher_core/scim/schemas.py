"""Schemas and resource types: what a document may hold, as RFC 7643 §7 describes it.

Every other module of the engine asks here; nothing is known of an attribute but what its schema says. A
tenant's own schemas come through the same `load_schema` as ours, whose JSON lies in `data/`. All values are
frozen, and every look-up by name ignores case (RFC 7643 §2.1).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

import orjson

from usher_core import errors
from usher_core.scim.attributes import (
    COMMON_ATTRIBUTES,
    Attribute,
    dump_attribute,
    load_attributes,
    read_flag,
    read_text,
)

__all__ = [
    "COMMON_ATTRIBUTES",
    "ENTERPRISE_USER",
    "GROUP",
    "RESOURCE_TYPE",
    "SCHEMA",
    "SERVICE_PROVIDER_CONFIG",
    "USER",
    "Attribute",
    "Extension",
    "Registry",
    "ResourceType",
    "Schema",
    "default",
    "dump_resource_type",
    "dump_schema",
    "endpoints_of",
    "load_resource_type",
    "load_schema",
]

USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE_USER: Final = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
SERVICE_PROVIDER_CONFIG: Final = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"
RESOURCE_TYPE: Final = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
SCHEMA: Final = "urn:ietf:params:scim:schemas:core:2.0:Schema"


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema: a URN and the attributes it defines, by lower-case name."""

    id: str
    name: str
    description: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict, hash=False)

    def attribute(self, name: str) -> Attribute | None:
        """Find an attribute by its name in any case."""
        return self.attributes.get(name.lower())


@dataclass(frozen=True, slots=True)
class Extension:
    """A schema that resources of a type may have besides their own."""

    schema: Schema
    required: bool = False

    def as_attribute(self) -> Attribute:
        """Make the complex attribute, named by the URN, that holds the extension in a document."""
        return Attribute(self.schema.id, "complex", sub_attributes=self.schema.attributes)


@dataclass(frozen=True, slots=True, eq=False)
class ResourceType:
    """A kind of resource. Compared by identity, so that it can key the caches of what is compiled from it.

    `stored_apart` names the attributes that never lie in the document, but in rows of their own; `computed`
    those that are made of such rows for each answer.
    """

    name: str
    endpoint: str
    description: str
    schema: Schema
    extensions: tuple[Extension, ...] = ()
    stored_apart: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()
    extension_attributes: Mapping[str, Attribute] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        held = {extension.schema.id.lower(): extension.as_attribute() for extension in self.extensions}
        object.__setattr__(self, "extension_attributes", held)

    @property
    def schemas(self) -> tuple[Schema, ...]:
        """The schema of the core and those of the extensions, in this order."""
        return (self.schema, *(extension.schema for extension in self.extensions))

    def attribute(self, name: str) -> Attribute | None:
        """Find an attribute of the core, or one common to all resources, by its name in any case."""
        lowered = name.lower()
        return COMMON_ATTRIBUTES.get(lowered) or self.schema.attributes.get(lowered)

    def extension_attribute(self, name: str) -> tuple[str, Attribute] | None:
        """Find an attribute of an extension by its bare name; returns the extension's URN with it."""
        lowered = name.lower()
        for extension in self.extensions:
            attribute = extension.schema.attributes.get(lowered)
            if attribute is not None:
                return extension.schema.id, attribute
        return None


@dataclass(frozen=True, slots=True, eq=False)
class Registry:
    """The resource types of a tenant, and every schema that its discovery shows.

    `version` tells the schemas of one tenant at different times apart; 0 is ours alone.
    """

    resource_types: tuple[ResourceType, ...]
    schemas: tuple[Schema, ...]
    version: int = 0

    def by_endpoint(self, endpoint: str) -> ResourceType:
        """Find the resource type served at an endpoint such as `Users`; the case counts.

        Raises:
            NotFound: nothing is served there.
        """
        for resource_type in self.resource_types:
            if resource_type.endpoint == endpoint:
                return resource_type
        raise errors.NotFound("There is no such endpoint.")

    def by_name(self, name: str) -> ResourceType:
        """Find a resource type by its name such as `User`.

        Raises:
            NotFound: there is none of that name.
        """
        for resource_type in self.resource_types:
            if resource_type.name == name:
                return resource_type
        raise errors.NotFound("There is no such resource type.")

    def by_schema(self, urn: str) -> Schema:
        """Find a schema by its URN in any case.

        Raises:
            NotFound: there is none of that URN.
        """
        for schema in self.schemas:
            if schema.id.lower() == urn.lower():
                return schema
        raise errors.NotFound("There is no such schema.")


def load_schema(document: Any, endpoints: Mapping[str, str] | None = None) -> Schema:
    """Read a schema from its JSON form (RFC 7643 §7).

    `endpoints` tells where the resource types that it may refer to are served, by their names; ours if not
    given.

    Raises:
        InvalidValue: the document is no schema; the detail names what is wrong.
    """
    if not isinstance(document, dict):
        raise errors.InvalidValue("A schema must be a JSON object.")
    urn = read_text(document, "id", "schema", required=True)
    if not urn.lower().startswith("urn:"):
        raise errors.InvalidValue(f"schema {urn}: id must be a URN.")
    # RFC 7643 §2.3.8 forbids complex sub-attributes, yet §7 defines the schema of schemas with them.
    attributes = load_attributes(
        document,
        "attributes",
        urn,
        endpoints_of(_data("resource_types")) if endpoints is None else endpoints,
        nested=1 if urn != SCHEMA else 2,
    )
    name = read_text(document, "name", urn) or urn
    return Schema(urn, name, read_text(document, "description", urn), attributes)


def load_resource_type(document: Any, known: Mapping[str, Schema]) -> ResourceType:
    """Read a resource type from its JSON form (RFC 7643 §6); `known` holds the schemas by URN.

    Raises:
        InvalidValue: the document is no resource type, or names a schema that is not known.
    """
    if not isinstance(document, dict):
        raise errors.InvalidValue("A resource type must be a JSON object.")
    name = read_text(document, "name", "resource type", required=True)
    endpoint = read_text(document, "endpoint", name, required=True)
    schema = _known(document, name, known)
    listed = document.get("schemaExtensions") or []
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise errors.InvalidValue(f"{name}: schemaExtensions must be a list of objects.")
    extensions = tuple(
        Extension(_known(item, name, known), read_flag(item, "required", name)) for item in listed
    )
    return ResourceType(
        name,
        endpoint.strip("/"),
        read_text(document, "description", name),
        schema,
        extensions,
        # A group can have any number of members: they are rows, and no document holds them.
        stored_apart=frozenset({"members"}) if schema.id == GROUP else frozenset(),
        computed=frozenset({"groups"}) if schema.id == USER else frozenset(),
    )


def endpoints_of(documents: Iterable[Any]) -> dict[str, str]:
    """List where resource types are served, by their names; what is no resource type is left out."""
    found = {}
    for document in documents:
        name, endpoint = (
            (document.get("name"), document.get("endpoint")) if isinstance(document, dict) else (None, None)
        )
        if isinstance(name, str) and isinstance(endpoint, str):
            found[name] = endpoint.strip("/")
    return found


def _known(document: dict[str, Any], owner: str, known: Mapping[str, Schema]) -> Schema:
    urn = read_text(document, "schema", owner, required=True)
    if urn not in known:
        raise errors.InvalidValue(f"{owner}: the schema {urn} is not known.")
    return known[urn]


def dump_schema(schema: Schema) -> dict[str, Any]:
    """Write a schema in its JSON form (RFC 7643 §7)."""
    return {
        "schemas": [SCHEMA],
        "id": schema.id,
        "name": schema.name,
        "description": schema.description,
        "attributes": [dump_attribute(attribute) for attribute in schema.attributes.values()],
    }


def dump_resource_type(resource_type: ResourceType) -> dict[str, Any]:
    """Write a resource type in its JSON form (RFC 7643 §6)."""
    document: dict[str, Any] = {
        "schemas": [RESOURCE_TYPE],
        "id": resource_type.name,
        "name": resource_type.name,
        "endpoint": f"/{resource_type.endpoint}",
        "description": resource_type.description,
        "schema": resource_type.schema.id,
    }
    if resource_type.extensions:
        document["schemaExtensions"] = [
            {"schema": extension.schema.id, "required": extension.required}
            for extension in resource_type.extensions
        ]
    return document


@functools.cache
def default() -> Registry:
    """Load the schemas and resource types that every tenant has."""
    files = ("user", "group", "enterprise_user", "service_provider_config", "resource_type", "schema")
    known = {schema.id: schema for schema in (load_schema(_data(file)) for file in files)}
    types = tuple(load_resource_type(document, known) for document in _data("resource_types"))
    return Registry(types, tuple(known.values()))


@functools.cache
def _data(file: str) -> Any:
    return orjson.loads(resources.files(__package__).joinpath("data", f"{file}.json").read_bytes())
