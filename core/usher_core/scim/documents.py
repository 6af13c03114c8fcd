"""Documents: a client's body becomes the form that is stored, and tells which of its values are indexed.

A document is a plain JSON object with canonical attribute names and values that the schema allows; it never
holds null, an empty list, a password, or what is the service's own (`id`, `meta`, read-only attributes). The
api calls `normalise` before a change is queued, so that the worker need not look at types again.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from usher_core import errors
from usher_core.scim import bodies, members, readers, references
from usher_core.scim.readers import MAX_ELEMENTS as MAX_ELEMENTS
from usher_core.scim.readers import Reader
from usher_core.scim.references import AttributeReference
from usher_core.scim.schemas import COMMON_ATTRIBUTES, USER, Attribute, ResourceType
from usher_core.scim.values import fold as fold

# Of a value that resources are looked up by: an index holds it whole (PostgreSQL allows 2,704 bytes a row).
MAX_INDEXED_BYTES: Final = 1024
# Set behind the path of a unique attribute whose case counts; no path has a blank.
_EXACT: Final = " exact"
# The types whose values are text and nothing more.
TEXTS: Final = frozenset({"string", "reference", "binary"})
_LOOKED_UP: Final = frozenset({"displayName", "emails.value"})
_CASELESS: Final = Attribute("text")


@dataclass(frozen=True, slots=True)
class _Slot:
    """Where a key of the body goes; without a reader its value is ignored."""

    urn: str | None
    name: str
    read: Reader | None
    nested: Mapping[str, _Slot] | None = None


def normalise(resource_type: ResourceType, body: Any, *, ignore_unknown: bool = True) -> dict[str, Any]:
    """Bring the body of a POST or PUT to the form that is stored; the body stays as it is.

    Raises:
        InvalidSyntax: the body is no object, or nested too deep.
        InvalidValue: a value is of the wrong type or a required one is missing; with `ignore_unknown` off,
            also an attribute that no schema of the resource type knows.
        InvalidVersion: the body is of SCIM 1.x.
    """
    if not isinstance(body, dict):
        raise errors.InvalidSyntax(f"The body must be a JSON object that describes a {resource_type.name}.")
    bodies.refuse_deep(body)
    slots = _slots(resource_type)
    document: dict[str, Any] = {"schemas": None}
    for key, value in body.items():
        slot = slots.get(key) or slots.get(key.lower())
        if slot is None:
            if not ignore_unknown:
                raise errors.InvalidValue(references.describe_unknown(key, resource_type))
        elif slot.nested is not None:
            _read_extension(document, slot, value, ignore_unknown=ignore_unknown)
        elif slot.read is not None:
            _read(document, slot, value)
        elif slot.name == "schemas":
            bodies.refuse_other_versions(value)
    _require(resource_type, document)
    document["schemas"] = schemas_of(resource_type, document)
    refuse_oversized(resource_type, document)
    return document


def _read(document: dict[str, Any], slot: _Slot, value: Any) -> None:
    read = slot.read(value) if slot.read is not None else None
    if read is None:
        return
    if slot.urn is None:
        document[slot.name] = read
    else:
        # Beside the URN's own object, a flat key only fills what is not given there.
        document.setdefault(slot.urn, {}).setdefault(slot.name, read)


def _read_extension(document: dict[str, Any], slot: _Slot, value: Any, *, ignore_unknown: bool) -> None:
    if value is None or value == []:
        return
    if not isinstance(value, dict):
        raise errors.InvalidValue(f"{slot.name} must be an object.")
    held: dict[str, Any] = {}
    slots = slot.nested or {}
    for key, item in value.items():
        sub = slots.get(key) or slots.get(key.lower())
        if sub is None:
            if not ignore_unknown:
                names = (one.name for one in slots.values())
                raise errors.InvalidValue(references.describe_unknown_among(key, names, slot.name))
        elif sub.read is not None:
            read = sub.read(item)
            if read is not None:
                held[sub.name] = read
    if held:
        document[slot.name] = {**document.get(slot.name, {}), **held}


def _require(resource_type: ResourceType, document: dict[str, Any]) -> None:
    for name in _required(resource_type):
        if name not in document:
            raise errors.InvalidValue(f"{name} is required.")
    for extension in resource_type.extensions:
        held = document.get(extension.schema.id)
        if held is None:
            if extension.required:
                raise errors.InvalidValue(f"{extension.schema.id} is required.")
            continue
        for attribute in extension.schema.attributes.values():
            if needed(attribute) and attribute.name not in held:
                raise errors.InvalidValue(f"{extension.schema.id}:{attribute.name} is required.")


def needed(attribute: Attribute) -> bool:
    """Whether a client must give the attribute for a document to be whole."""
    return attribute.required and attribute.mutability != "readOnly" and not attribute.hidden


@functools.lru_cache(maxsize=1024)
def _required(resource_type: ResourceType) -> tuple[str, ...]:
    return tuple(a.name for a in resource_type.schema.attributes.values() if needed(a))


def schemas_of(resource_type: ResourceType, document: Mapping[str, Any]) -> list[str]:
    """List the schemas of a document: that of its type, and each extension that has content."""
    held = [
        extension.schema.id for extension in resource_type.extensions if document.get(extension.schema.id)
    ]
    return [resource_type.schema.id, *held]


@functools.lru_cache(maxsize=1024)
def _slots(resource_type: ResourceType) -> dict[str, _Slot]:
    """Compile where each key goes: names in lower case and as written, qualified by the URN or not."""
    slots: dict[str, _Slot] = {}
    for extension in reversed(resource_type.extensions):
        urn = extension.schema.id
        nested: dict[str, _Slot] = {}
        for lowered, attribute in extension.schema.attributes.items():
            slot = _Slot(urn, attribute.name, _reader(resource_type, attribute, f"{urn}:{attribute.name}"))
            nested[lowered] = nested[attribute.name] = slot
            slots[lowered] = slots[f"{urn.lower()}:{lowered}"] = slot
        slots[urn] = slots[urn.lower()] = _Slot(None, urn, None, nested)
    for lowered, attribute in {**resource_type.schema.attributes, **COMMON_ATTRIBUTES}.items():
        slot = _Slot(None, attribute.name, _reader(resource_type, attribute, attribute.name))
        slots[lowered] = slots[attribute.name] = slots[f"{resource_type.schema.id.lower()}:{lowered}"] = slot
    return slots


def _reader(resource_type: ResourceType, attribute: Attribute, path: str) -> Reader | None:
    if attribute.mutability == "readOnly":
        return None  # RFC 7644 §3.5.1: what clients send for it is ignored
    if attribute.name in resource_type.stored_apart:
        return functools.partial(members.read, attribute)
    read = readers.whole(attribute, path)
    if tells_access(resource_type, path):
        return readers.denying(read)
    return readers.discarding(read) if attribute.hidden else read


def with_active(
    resource_type: ResourceType, document: dict[str, Any], before: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Say whether a user is active where a POST or PUT does not: a new one is, another one stays as it was.

    So nobody comes back, or is shut out, by what a client leaves out (RFC 7644 §3.3, §3.5.1 leave it to us).
    `before` is the user that a PUT replaces; where a PATCH removed the attribute, it stays away.
    """
    if "active" in document or not tells_access(resource_type, "active"):
        return document
    if before is None:
        return document | {"active": True}
    return document | {"active": before["active"]} if "active" in before else document


def tells_access(resource_type: ResourceType, path: str) -> bool:
    """Tell whether a path is that of the attribute `active` of users, without which nobody has access."""
    return path == "active" and resource_type.schema.id == USER


def split_members(
    resource_type: ResourceType, document: dict[str, Any]
) -> tuple[dict[str, Any], tuple[members.Member, ...] | None]:
    """Take the members out of a normalised document; `None` in their place when it does not mention them."""
    if not resource_type.stored_apart:
        return document, None
    apart = [document[name] for name in resource_type.stored_apart if name in document]
    rest = {key: value for key, value in document.items() if key not in resource_type.stored_apart}
    return rest, members.load(apart[0]) if apart else None


@functools.lru_cache(maxsize=1024)
def _unique(resource_type: ResourceType) -> tuple[AttributeReference, ...]:
    return tuple(r for r in references_of(resource_type) if r.target.uniqueness in ("server", "global"))


def references_of(resource_type: ResourceType) -> Iterator[AttributeReference]:
    """List every attribute and sub-attribute that the schemas of a resource type define."""
    for schema in resource_type.schemas:
        urn = None if schema is resource_type.schema else schema.id
        for attribute in schema.attributes.values():
            yield AttributeReference(urn, attribute)
            for sub in attribute.sub_attributes.values():
                yield AttributeReference(urn, attribute, sub)


def found(reference: AttributeReference, document: Mapping[str, Any]) -> list[Any]:
    """List the values that a document has for an attribute or a sub-attribute; empty when unassigned."""
    holder = document if reference.urn is None else document.get(reference.urn) or {}
    held = holder.get(reference.attribute.name)
    listed = held if isinstance(held, list) else [held]
    if reference.sub_attribute is not None:
        name = reference.sub_attribute.name
        listed = [item.get(name) for item in listed if isinstance(item, dict)]
        listed = [v for item in listed for v in (item if isinstance(item, list) else [item])]
    return [value for value in listed if value is not None]


def unique_spaces(resource_type: ResourceType) -> tuple[str, ...]:
    """List the spaces in which values of a resource type must be unique, one for each attribute."""
    return tuple(unique_space(reference) for reference in _unique(resource_type))


def unique_space(reference: AttributeReference) -> str:
    """Name the space in which the values of an attribute are unique: its path, and whether the case counts.

    Values that are compared in another way lie in another space, so those of two schemas are beside each
    other while one takes the other's place.
    """
    return f"{reference.path}{_EXACT}" if reference.target.case_exact else reference.path


def path_of_space(space: str) -> str:
    """Tell the path of the attribute whose values must be unique in a space."""
    return space.removesuffix(_EXACT)


def unique_values(resource_type: ResourceType, document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the space and the folded value of all that must be unique (RFC 7643 §7)."""
    pairs: dict[tuple[str, str], None] = {}
    for reference in _unique(resource_type):
        space = unique_space(reference)
        for value in found(reference, document):
            if not isinstance(value, dict) and value != "":
                pairs[space, fold(reference.target, value)] = None
    return list(pairs)


def lookup_values(resource_type: ResourceType, document: Mapping[str, Any]) -> dict[str, Any]:
    """List what clients look resources up by, beside the unique values.

    `external_id` is exact; `display_name` is folded; `emails` are folded, without repetition. Whether the
    case counts is for the comparison to say: what is looked up stays the same when a schema changes.
    """
    texts = {
        path: list(dict.fromkeys(fold_caseless(text) for text in found(reference, document)))
        for path, reference in looked_up(resource_type).items()
    }
    named = texts.get("displayName")
    return {
        "external_id": document.get("externalId") or None,
        "display_name": named[0] if named else None,
        "emails": [address for address in texts.get("emails.value", ()) if address],
    }


@functools.lru_cache(maxsize=1024)
def looked_up(resource_type: ResourceType) -> Mapping[str, AttributeReference]:
    """Find the attributes by whose values resources are looked up, by their paths.

    A tenant's own resource type may have attributes of these names that are of another form.
    """
    return {
        reference.path: reference
        for reference in references_of(resource_type)
        if reference.path in _LOOKED_UP
        and reference.target.type in TEXTS
        and reference.attribute.multi_valued == (reference.sub_attribute is not None)
        and not (reference.sub_attribute is not None and reference.target.multi_valued)
    }


def fold_caseless(text: str) -> str:
    """Fold a text whatever its attribute says of the case."""
    return fold(_CASELESS, text)


def refuse_oversized(resource_type: ResourceType, document: Mapping[str, Any]) -> None:
    """Refuse what no index could hold, and lists that would take long to compare.

    Raises:
        InvalidValue: naming the attribute and the limit.
    """
    for reference in _indexed(resource_type):
        for text in found(reference, document):
            if isinstance(text, str) and _is_oversized(reference.target, text):
                raise errors.InvalidValue(f"{reference.path} is longer than {MAX_INDEXED_BYTES} bytes.")
    for reference in _lists_inside(resource_type):
        for element in found(dataclasses.replace(reference, sub_attribute=None), document):
            readers.refuse_many(element.get(reference.target.name) or [], reference.path)
    for name, value in document.items():
        if name in resource_type.stored_apart:
            continue
        lists = value.items() if isinstance(value, dict) else ((name, value),)
        for attribute, elements in lists:
            if isinstance(elements, list):
                readers.refuse_many(elements, attribute)


@functools.lru_cache(maxsize=1024)
def _lists_inside(resource_type: ResourceType) -> tuple[AttributeReference, ...]:
    return tuple(
        reference
        for reference in references_of(resource_type)
        if reference.sub_attribute is not None and reference.sub_attribute.multi_valued
    )


@functools.lru_cache(maxsize=1024)
def _indexed(resource_type: ResourceType) -> tuple[AttributeReference, ...]:
    named = (
        references.resolve(name, resource_type) for name in ("externalId", "displayName", "emails.value")
    )
    return (*_unique(resource_type), *(reference for reference in named if reference is not None))


def _is_oversized(attribute: Attribute, text: str) -> bool:
    if text.isascii():
        return len(text) > MAX_INDEXED_BYTES
    # Folded, three letters take two bytes at least: a text far too long need not be.
    return len(text) > 2 * MAX_INDEXED_BYTES or len(fold(attribute, text).encode()) > MAX_INDEXED_BYTES


def refuse_immutable(
    resource_type: ResourceType, before: Mapping[str, Any], after: Mapping[str, Any]
) -> None:
    """Refuse a change of what may be set once only (RFC 7644 §3.5.1, §3.5.2).

    Raises:
        MutabilityViolated: an immutable attribute that had a value has another one, or none.
    """
    for reference in _immutable(resource_type):
        held = found(reference, before)
        if held and held != found(reference, after):
            raise errors.MutabilityViolated(f"{reference.path} is immutable: it can't be changed once set.")


@functools.lru_cache(maxsize=1024)
def _immutable(resource_type: ResourceType) -> tuple[AttributeReference, ...]:
    # The sub-attributes of a multi-valued attribute belong to its elements, which may come and go.
    return tuple(
        reference
        for reference in references_of(resource_type)
        if reference.target.mutability == "immutable"
        and not (reference.sub_attribute is not None and reference.attribute.multi_valued)
        and reference.attribute.name not in resource_type.stored_apart
    )
