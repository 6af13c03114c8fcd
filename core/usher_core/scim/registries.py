"""Registries: our resource types and schemas together with those of a tenant's own (RFC 7643 §6, §7).

`parse` reads what a tenant brings, in files, and judges it; `build` makes the registry of what was judged
before. Invariant: what passes here can be obeyed in full, and takes nothing of ours away: a tenant's schemas
stand beside ours, its resource types beside users and groups, which it may only extend.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from usher_core import errors
from usher_core.scim import schemas
from usher_core.scim.attributes import COMMON_ATTRIBUTES, Attribute
from usher_core.scim.schemas import Registry, ResourceType, Schema

MAX_BYTES: Final = 1_048_576
MAX_SCHEMAS: Final = 50
MAX_RESOURCE_TYPES: Final = 50
# Of all of a tenant's schemas together, sub-attributes counted too.
MAX_ATTRIBUTES: Final = 500
_MAX_NAME: Final = 64
_MAX_URN: Final = 200

# RFC 8141 without what a path, a filter or a URL would have to escape.
_URN = re.compile(r"urn:[a-z0-9][a-z0-9-]{1,31}:[a-z0-9._:~-]*[a-z0-9_~]", re.IGNORECASE | re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]*", re.ASCII)
_FIXED: Final = frozenset({"bulk", "me", "resourcetypes", "schemas", "serviceproviderconfig"})
# What is equal is equal as text, so that an index can tell it.
_CAN_BE_UNIQUE: Final = frozenset({"string", "reference", "binary", "integer"})


@dataclass(frozen=True, slots=True)
class _Item:
    """A schema or resource type as it was found, and where."""

    where: str
    document: dict[str, Any]


def parse(texts: Mapping[str, bytes]) -> list[dict[str, Any]]:
    """Read the schemas and resource types of a tenant's files, by the files' names; in their canonical form.

    Each file is JSON: a Schema, a ResourceType, a list of them, or a ListResponse as discovery answers.

    Raises:
        InvalidValue: naming the file, and the schema and attribute, or the resource type, that can't be.
    """
    size = sum(map(len, texts.values()))
    if size > MAX_BYTES:
        raise errors.InvalidValue(f"The files have {size} bytes together; at most {MAX_BYTES} are read.")
    items = [item for where in sorted(texts) for item in _items(where, _json(where, texts[where]))]
    documents = dump(_build(items, 0))
    if b"\\u0000" in orjson.dumps(documents):
        raise errors.InvalidValue("The files hold a NUL character, which can't be stored.")
    return documents


def build(documents: Iterable[Any], version: int) -> Registry:
    """Make the registry of documents that `parse` returned; ours alone if there are none.

    Raises:
        InvalidValue: as `parse` does.
    """
    items = [item for document in documents for item in _items("stored", document)]
    return _build(items, version) if items else schemas.default()


def dump(registry: Registry) -> list[dict[str, Any]]:
    """Write what a registry has beside ours."""
    ours = schemas.default()
    return [
        *(schemas.dump_schema(one) for one in registry.schemas if one not in ours.schemas),
        *(
            schemas.dump_resource_type(one)
            for one in registry.resource_types
            if one not in ours.resource_types
        ),
    ]


def unused(registry: Registry) -> list[str]:
    """List the tenant's schemas that no resource type has."""
    used = {schema.id for kind in registry.resource_types for schema in kind.schemas}
    ours = {schema.id for schema in schemas.default().schemas}
    return [schema.id for schema in registry.schemas if schema.id not in used | ours]


def _json(where: str, text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise errors.InvalidValue(f"{where}: no valid JSON: {exc.msg}, line {exc.lineno}.") from None


def _items(where: str, found: Any) -> Iterator[_Item]:
    if isinstance(found, dict) and isinstance(found.get("Resources"), list):
        found = found["Resources"]
    for item in found if isinstance(found, list) else [found]:
        if not isinstance(item, dict):
            raise errors.InvalidValue(f"{where}: a schema or resource type must be a JSON object.")
        yield _Item(where, item)


def _is_resource_type(item: _Item) -> bool:
    """Tell by what it calls itself, else by its form."""
    named = item.document.get("schemas")
    urns = {urn.lower() for urn in named if isinstance(urn, str)} if isinstance(named, list) else set()
    if schemas.RESOURCE_TYPE.lower() in urns or schemas.SCHEMA.lower() in urns:
        return schemas.RESOURCE_TYPE.lower() in urns
    if "endpoint" in item.document or "schema" in item.document:
        return True
    if "attributes" in item.document:
        return False
    raise errors.InvalidValue(
        f"{item.where}: neither a schema nor a resource type: its schemas must hold {schemas.SCHEMA} "
        f"or {schemas.RESOURCE_TYPE}."
    )


@contextlib.contextmanager
def _found_in(item: _Item) -> Iterator[None]:
    try:
        yield
    except errors.InvalidValue as exc:
        raise errors.InvalidValue(f"{item.where}: {exc.detail}") from None


def _build(items: list[_Item], version: int) -> Registry:
    ours = schemas.default()
    described = [item for item in items if _is_resource_type(item)]
    defined = [item for item in items if not _is_resource_type(item)]
    for listed, most, what in (
        (defined, MAX_SCHEMAS, "schemas"),
        (described, MAX_RESOURCE_TYPES, "resource types"),
    ):
        if len(listed) > most:
            raise errors.InvalidValue(f"{listed[most].where}: more than {most} {what} of a tenant's own.")
    own = [schemas.dump_resource_type(kind) for kind in ours.resource_types]
    endpoints = schemas.endpoints_of([*own, *(item.document for item in described)])
    known = {schema.id: schema for schema in ours.schemas}
    for item in defined:
        with _found_in(item):
            schema = schemas.load_schema(item.document, endpoints)
            _judge_schema(schema, known.values())
            known[schema.id] = schema
    kinds = {kind.name: kind for kind in ours.resource_types}
    for item in described:
        with _found_in(item):
            kind = _resource_type(item.document, known, kinds)
            kinds[kind.name] = kind
    for item in defined:
        with _found_in(item):
            _judge_references(known[item.document["id"]], kinds)
    return Registry(tuple(kinds.values()), tuple(known.values()), version)


# Schemas


def _judge_schema(schema: Schema, others: Collection[Schema]) -> None:
    urn = schema.id
    if len(urn) > _MAX_URN or not _URN.fullmatch(urn):
        raise errors.InvalidValue(
            f"schema {urn[:_MAX_URN]}: id must be a URN such as urn:example:scim:schemas:1.0:Device, of "
            f"letters, digits and .:_~- and of at most {_MAX_URN} characters."
        )
    ours = {one.id.lower() for one in schemas.default().schemas}
    for other in others:
        if other.id.lower() == urn.lower():
            whose = (
                "it is one of ours, which can't be changed" if urn.lower() in ours else "it is defined twice"
            )
            raise errors.InvalidValue(f"schema {urn}: {whose}.")
        for outer, inner in ((other, schema), (schema, other)):
            head, _, name = inner.id.lower().rpartition(":")
            if head == outer.id.lower() and name in outer.attributes:
                raise errors.InvalidValue(
                    f"schema {inner.id}: this is the name of an attribute of {outer.id}."
                )
    if urn.lower().startswith("urn:ietf:params:scim:api:"):
        raise errors.InvalidValue(f"schema {urn}: this is the name of a message of the protocol.")
    added = [other for other in others if other.id.lower() not in ours]
    if sum(map(_size, [schema, *added])) > MAX_ATTRIBUTES:
        raise errors.InvalidValue(
            f"schema {urn}: with it a tenant has more than {MAX_ATTRIBUTES} attributes of its own, "
            "sub-attributes counted too."
        )
    for attribute in schema.attributes.values():
        path = f"{urn}:{attribute.name}"
        if attribute.name.lower() in COMMON_ATTRIBUTES:
            raise errors.InvalidValue(
                f"{path}: every resource has this attribute; leave it out (RFC 7643 §3.1)."
            )
        if attribute.name.startswith("$"):
            raise errors.InvalidValue(f"{path}: only a sub-attribute may be called so.")
        _judge(attribute, path)
        for sub in attribute.sub_attributes.values():
            _judge(sub, f"{path}.{sub.name}")


def _size(schema: Schema) -> int:
    return sum(1 + len(attribute.sub_attributes) for attribute in schema.attributes.values())


def _judge(attribute: Attribute, path: str) -> None:
    if len(attribute.name) > _MAX_NAME:
        raise errors.InvalidValue(f"{path[:300]}: a name has at most {_MAX_NAME} characters.")
    if attribute.reference_types and attribute.type != "reference":
        raise errors.InvalidValue(f"{path}: only an attribute of type reference has referenceTypes.")
    if attribute.uniqueness == "none":
        return
    if attribute.type not in _CAN_BE_UNIQUE:
        raise errors.InvalidValue(
            f"{path}: uniqueness is {attribute.uniqueness}, but values of type {attribute.type} are not kept "
            f"unique; those of {', '.join(sorted(_CAN_BE_UNIQUE))} are."
        )
    if attribute.hidden:
        raise errors.InvalidValue(f"{path}: what is never returned is not kept, so it can't be unique.")


def _judge_references(schema: Schema, kinds: Mapping[str, ResourceType]) -> None:
    for attribute in schema.attributes.values():
        for one in (attribute, *attribute.sub_attributes.values()):
            path = f"{schema.id}:{attribute.name}{'' if one is attribute else f'.{one.name}'}"
            unknown = [name for name in one.reference_types if name not in ("external", "uri", *kinds)]
            if unknown:
                raise errors.InvalidValue(
                    f"{path}: referenceTypes: {unknown[0]} is no resource type of this tenant, nor external "
                    "or uri."
                )


# Resource types


def _resource_type(
    document: dict[str, Any], known: Mapping[str, Schema], kinds: Mapping[str, ResourceType]
) -> ResourceType:
    kind = schemas.load_resource_type(document, known)
    name = f"resource type {kind.name}"
    if len(kind.name) > _MAX_NAME or not _NAME.fullmatch(kind.name):
        raise errors.InvalidValue(
            f"resource type {kind.name[:_MAX_NAME]}: its name must be of letters, digits, _ and -, begin "
            f"with a letter and have at most {_MAX_NAME} characters."
        )
    extended = [extension.schema.id for extension in kind.extensions]
    for urn in extended:
        if urn == kind.schema.id or extended.count(urn) > 1:
            raise errors.InvalidValue(f"{name}: the schema {urn} is named twice.")
        if urn in _CORE:
            raise errors.InvalidValue(f"{name}: the schema {urn} is no extension.")
    ours = {one.name: one for one in schemas.default().resource_types}
    if kind.name in ours:
        return _extended(ours[kind.name], kind, again=kinds[kind.name] is not ours[kind.name])
    if kind.schema.id in _CORE or kind.schema.id == schemas.ENTERPRISE_USER:
        raise errors.InvalidValue(f"{name}: the schema {kind.schema.id} is for resource types of ours only.")
    if kind.name.lower() in {one.lower() for one in kinds}:
        raise errors.InvalidValue(f"{name}: there is one of this name already.")
    _judge_endpoint(kind, name, kinds.values())
    return kind


_CORE: Final = frozenset(
    {
        schemas.USER,
        schemas.GROUP,
        schemas.SERVICE_PROVIDER_CONFIG,
        schemas.RESOURCE_TYPE,
        schemas.SCHEMA,
    }
)


def _judge_endpoint(kind: ResourceType, name: str, others: Iterable[ResourceType]) -> None:
    if len(kind.endpoint) > _MAX_NAME or not _NAME.fullmatch(kind.endpoint):
        raise errors.InvalidValue(
            f"{name}: endpoint must be a slash and one word, such as /Devices, of letters, digits, _ and - "
            f"and of at most {_MAX_NAME} characters."
        )
    if kind.endpoint.lower() in _FIXED:
        raise errors.InvalidValue(f"{name}: the endpoint /{kind.endpoint} is the protocol's own.")
    for other in others:
        if other.endpoint.lower() == kind.endpoint.lower():
            raise errors.InvalidValue(f"{name}: the endpoint /{kind.endpoint} is that of {other.name}.")


def _extended(ours: ResourceType, kind: ResourceType, *, again: bool) -> ResourceType:
    """Give a resource type of ours the extensions that a tenant adds; the others stay."""
    name = f"resource type {kind.name}"
    if again:
        raise errors.InvalidValue(f"{name}: it is described twice.")
    if kind.schema.id != ours.schema.id or kind.endpoint != ours.endpoint:
        raise errors.InvalidValue(
            f"{name}: it is one of ours, which can only be extended: keep the schema {ours.schema.id} and "
            f"the endpoint /{ours.endpoint}, and add to schemaExtensions."
        )
    named = {extension.schema.id: extension for extension in kind.extensions}
    kept = [named.pop(extension.schema.id, extension) for extension in ours.extensions]
    return ResourceType(
        ours.name,
        ours.endpoint,
        ours.description,
        ours.schema,
        (*kept, *named.values()),
        ours.stored_apart,
        ours.computed,
    )
