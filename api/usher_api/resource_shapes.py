"""JSON Schemas of resources and of discovery, derived from the schemas of SCIM; `components` uses them.

A resource has two: what is answered, and what a client sends, whose name ends in `Input`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from usher_api import shapes
from usher_core.scim import documents, schemas
from usher_core.scim.attributes import COMMON_ATTRIBUTES, Attribute

_DISCOVERY: Final = (schemas.SERVICE_PROVIDER_CONFIG, schemas.RESOURCE_TYPE, schemas.SCHEMA)


def every(registry: schemas.Registry) -> dict[str, shapes.Shape]:
    """Make all of them by name; the resources are those of the registry."""
    return {**_resources(registry), **_discovery(registry)}


@dataclass(frozen=True, slots=True)
class _Form:
    """Which attributes an object has, and which of them it always has."""

    includes: Callable[[Attribute], bool]
    requires: Callable[[Attribute], bool]
    is_sent: bool = False


# A client may ask for any part of a resource, so an answer is only sure to hold what is always returned.
_SHOWN = _Form(lambda attribute: not attribute.hidden, lambda attribute: attribute.returned == "always")
_WHOLE = _Form(lambda attribute: not attribute.hidden, lambda attribute: attribute.required)
_SENT = _Form(
    lambda attribute: attribute.mutability != "readOnly", lambda attribute: attribute.required, is_sent=True
)

_EXAMPLES: Final[Mapping[str, dict[str, Any]]] = {
    schemas.USER: {
        "userName": "ada@example.com",
        "name": {"givenName": "Ada", "familyName": "Lovelace"},
        "emails": [{"value": "ada@example.com", "type": "work", "primary": True}],
        "active": True,
    },
    schemas.GROUP: {"displayName": "Engineers", "members": []},
}

_TYPES: Final[Mapping[str, shapes.Shape]] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "decimal": {"type": "number"},
    "integer": {"type": "integer", "format": "int64"},
    "dateTime": {"type": "string", "format": "date-time"},
    "binary": {"type": "string", "contentEncoding": "base64"},
    "reference": {"type": "string"},
}


def _resources(registry: schemas.Registry) -> dict[str, shapes.Shape]:
    found: dict[str, shapes.Shape] = {}
    for kind in registry.resource_types:
        core = kind.schema.attributes.values()
        found[kind.name] = _object([*COMMON_ATTRIBUTES.values(), *core], _SHOWN)
        found[f"{kind.name}Input"] = sent = _object([COMMON_ATTRIBUTES["externalid"], *core], _SENT)
        if kind.schema.id in _EXAMPLES:
            sent["examples"] = [{"schemas": [kind.schema.id], **_EXAMPLES[kind.schema.id]}]
        # RFC 7643 §3: every representation names its schemas, though ours are computed from the content.
        sent["properties"] = {"schemas": shapes.naming(kind.schema.id), **sent["properties"]}
        sent["required"] = ["schemas", *sent.get("required", ())]
        for name in kind.stored_apart:
            sent["properties"][name].pop("maxItems", None)
        for extension in kind.extensions:
            held = extension.schema.attributes.values()
            for name, form in ((kind.name, _SHOWN), (f"{kind.name}Input", _SENT)):
                part = extension.schema.name + name.removeprefix(kind.name)
                found[part] = _object(held, form)
                found[name]["properties"][extension.schema.id] = shapes.ref(part)
                if extension.required and form.is_sent:
                    found[name]["required"].append(extension.schema.id)
    return found


def _discovery(registry: schemas.Registry) -> dict[str, shapes.Shape]:
    found = {}
    for urn in _DISCOVERY:
        described = registry.by_schema(urn)
        own = described.attributes.values()
        found[described.name] = shown = _object([*own, COMMON_ATTRIBUTES["meta"]], _WHOLE)
        shown["properties"] = {"schemas": shapes.naming(urn), **shown["properties"]}
        shown["required"] = ["schemas", *shown["required"], "meta"]
    return found


def _object(attributes: Iterable[Attribute], form: _Form) -> shapes.Shape:
    held = [attribute for attribute in attributes if form.includes(attribute)]
    shape: shapes.Shape = {
        "type": "object",
        "properties": {attribute.name: _attribute(attribute, form) for attribute in held},
    }
    if required := [attribute.name for attribute in held if form.requires(attribute)]:
        shape["required"] = required
    return shape


def _attribute(attribute: Attribute, form: _Form) -> shapes.Shape:
    if attribute.sub_attributes:
        shape = _object(attribute.sub_attributes.values(), form)
    else:
        shape = dict(_TYPES[attribute.type])
    if attribute.canonical_values:
        shape["examples"] = list(attribute.canonical_values)  # RFC 7643 §7: hints, others are taken too
    if attribute.multi_valued:
        shape = {"type": "array", "items": shape}
        if form.is_sent:
            shape["maxItems"] = documents.MAX_ELEMENTS
    if attribute.description:
        shape["description"] = attribute.description
    if attribute.hidden:
        shape["writeOnly"] = True
    elif attribute.mutability == "readOnly":
        shape["readOnly"] = True
    return shape
