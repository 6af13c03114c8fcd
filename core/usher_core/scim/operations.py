"""Operations of a PATCH message (RFC 7644 §3.5.2), read and checked as far as that needs no state.

`patches` applies them. Each names one attribute by a canonical path, with a value in its stored form: a value
without a path is taken apart, what would change nothing is left out, and a password is checked and dropped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from usher_core import errors
from usher_core.scim import bodies, documents, members, messages, paths, readers, weights
from usher_core.scim.paths import Path
from usher_core.scim.schemas import ResourceType

Op = Literal["add", "remove", "replace"]
# Each may compare its values with all that are there; known clients put many members into one operation.
MAX_OPERATIONS: Final = 500
_OPS: Final = ("add", "remove", "replace")
_NOT_GIVEN: Final = object()


@dataclass(frozen=True, slots=True)
class Operation:
    """One change of one attribute.

    `value` is `None` for a remove of all; a remove with a list removes those values alone, of an attribute or
    of a sub-attribute. An object given to a complex attribute is merged, and its nulls unassign.
    """

    op: Op
    path_text: str
    value: Any = None


def parse(body: Any, resource_type: ResourceType) -> tuple[Operation, ...]:
    """Read a PATCH message and check all of it that needs no state; may leave no operation at all.

    Raises:
        InvalidSyntax: the body is no PATCH message.
        InvalidPath, InvalidFilter: a path is wrong, or names nothing known.
        InvalidValue: a value is missing, of the wrong type, or empty where one is required.
        MutabilityViolated: a path names what is read-only, or removes what is required.
        NoTarget: a remove has no path.
    """
    if not isinstance(body, dict):
        raise errors.InvalidSyntax("The body must be a JSON object: a PATCH message.")
    bodies.refuse_deep(body)
    fields = {key.lower(): value for key, value in body.items()}
    bodies.require_message(fields.get("schemas"), messages.PATCH_OP_SCHEMA)
    listed = fields.get("operations")
    if not isinstance(listed, list) or not listed:
        raise errors.InvalidSyntax("Operations must be a list of at least one operation.")
    if len(listed) > MAX_OPERATIONS:
        raise errors.InvalidValue(f"Operations may hold at most {MAX_OPERATIONS} operations.")
    given = [_fields(item) for item in listed]
    weights.refuse_heavy(given, resource_type)
    operations = (operation for item in given for operation in _operations(item, resource_type))
    # One without a path may be about many attributes.
    read = tuple(itertools.islice(operations, MAX_OPERATIONS + 1))
    if len(read) > MAX_OPERATIONS:
        raise errors.InvalidValue(f"Operations may be about at most {MAX_OPERATIONS} attributes.")
    return read


def reread(dumped: Iterable[Any], resource_type: ResourceType) -> tuple[Operation, ...]:
    """Read operations that were read before, and are known to be few, by another resource type.

    Raises:
        InvalidPath, InvalidFilter, InvalidValue, MutabilityViolated: as `parse` does.
    """
    return tuple(operation for item in dumped for operation in _operations(_fields(item), resource_type))


def _fields(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise errors.InvalidSyntax("Each of the Operations must be an object.")
    return {key.lower(): value for key, value in item.items()}


def _operations(fields: dict[str, Any], resource_type: ResourceType) -> Iterator[Operation]:
    given = fields.get("op")
    # Entra ID writes Add, Remove and Replace.
    if not isinstance(given, str) or given.lower() not in _OPS:
        raise errors.InvalidSyntax("op must be add, remove or replace.")
    op = cast(Op, given.lower())
    path_text = fields.get("path")
    value = fields.get("value", _NOT_GIVEN)
    if path_text is not None and not isinstance(path_text, str):
        raise errors.InvalidPath("path must be a string.")
    if path_text:
        yield from _aimed(op, paths.parse(path_text, resource_type), value, resource_type)
    elif op == "remove":
        raise errors.NoTarget("A remove needs a path.")  # RFC 7644 §3.5.2.2
    else:
        yield from _pathless(op, value, "", resource_type)


def _pathless(op: Op, values: Any, prefix: str, resource_type: ResourceType) -> Iterator[Operation]:
    """Take a value apart whose keys say what it is aimed at; unknown ones are ignored."""
    if not isinstance(values, dict):
        raise errors.InvalidValue(f"The value of an {op} without a path to an attribute must be an object.")
    for key, value in values.items():
        if not paths.names_known(f"{prefix}{key}", resource_type):
            continue
        try:
            path = paths.parse(f"{prefix}{key}", resource_type)
        except errors.InvalidPath:
            continue
        if _read_only(path):
            continue  # Okta and Entra ID send id, meta, groups and schemas back as they got them
        if prefix == "" and _is_extension(path, resource_type) and value is None:
            continue
        yield from _aimed(op, path, value, resource_type)


def _aimed(op: Op, path: Path, value: Any, resource_type: ResourceType) -> Iterator[Operation]:
    reference = path.reference
    if reference.attribute.name == "schemas" and reference.urn is None:
        return  # computed from the content
    if _read_only(path):
        raise errors.MutabilityViolated(f"{reference.path} is read-only.")
    if is_apart(path, resource_type):
        yield from _aimed_at_members(op, path, value)
    elif op == "remove":
        yield from _remove(path, value, resource_type)
    elif value is _NOT_GIVEN:
        raise errors.InvalidValue(f"The {op} of {path.text} needs a value.")
    elif _is_extension(path, resource_type):
        yield from _pathless(op, value, f"{reference.attribute.name}:", resource_type)
    else:
        if op == "replace" and value in (None, []) and documents.tells_access(resource_type, path.text):
            value = False  # as in a body: null takes the access away
        yield from _set(op, path, value)


def _set(op: Op, path: Path, value: Any) -> Iterator[Operation]:
    read = _read(path, value)
    if path.reference.target.hidden or path.reference.attribute.hidden:
        return
    for name in read if isinstance(read, dict) else ():
        if read[name] is None and documents.needed(path.reference.attribute.sub_attributes[name.lower()]):
            raise errors.MutabilityViolated(f"{path.text}.{name} is required: it can't be removed.")
    if read is not None:
        yield Operation(op, path.text, read)
    elif op == "replace" or value not in (None, []):
        # RFC 7643 §2.5: null and an empty array unassign; and Entra ID's manager "" does.
        if _leaves_out(path):
            # RFC 7644 §3.5.2.2 has one error for what is removed and for what becomes unassigned.
            raise errors.MutabilityViolated(f"{path.text} is required: it can't be removed.")
        yield Operation("remove", path.text)


def _read(path: Path, value: Any) -> Any:
    reference = path.reference
    if reference.sub_attribute is not None:
        return readers.part(reference.attribute, reference.sub_attribute, reference.path)(value)
    attribute = reference.attribute
    if attribute.type == "complex" and (path.filter is not None or not attribute.multi_valued):
        return readers.partial(attribute, reference.path)(value)
    return (readers.whole if path.filter is None else readers.element)(attribute, reference.path)(value)


def _remove(path: Path, value: Any, resource_type: ResourceType) -> Iterator[Operation]:
    reference = path.reference
    if reference.target.hidden or reference.attribute.hidden:
        return
    listed = None
    names_a_list = path.filter is None or reference.sub_attribute is not None
    if reference.target.multi_valued and names_a_list:
        listed = None if value is _NOT_GIVEN or value is None else _listed(path, value)
    whole = resource_type.extension_attributes.get(reference.attribute.name.lower())
    needed = _leaves_out(path) or any(
        whole is not None and extension.required and extension.schema.id == whole.name
        for extension in resource_type.extensions
    )
    if needed and listed is None:
        raise errors.MutabilityViolated(f"{path.text} is required: it can't be removed.")  # RFC 7644 §3.5.2.2
    if listed != []:
        yield Operation("remove", path.text, listed)


def _leaves_out(path: Path) -> bool:
    """Whether unassigning what the path names would surely leave out something required."""
    some_elements = path.filter is not None and path.reference.sub_attribute is None
    return documents.needed(path.reference.target) and not some_elements


def _listed(path: Path, value: Any) -> list[Any]:
    """Read the values to be removed; what is malformed can't be among those held, so it names none."""
    read = readers.element(path.reference.target, path.reference.path)
    given = value if isinstance(value, list) else [value]
    readers.refuse_many(given, path.reference.path)
    listed = []
    for item in given:
        try:
            read_item = read(item)
        except errors.InvalidValue:
            continue
        if read_item is not None:
            listed.append(read_item)
    return listed


def _aimed_at_members(op: Op, path: Path, value: Any) -> Iterator[Operation]:
    attribute = path.reference.attribute
    if path.reference.sub_attribute is not None:
        # RFC 7643 §8.7.1: what is known of a member is immutable.
        raise errors.MutabilityViolated(f"{path.reference.path} is immutable: remove and add the member.")
    if op == "remove":
        if path.filter is not None:
            members.refuse_computed(path.filter)
        if path.filter is not None or value is _NOT_GIVEN or value is None:
            yield Operation(op, path.text)
            return
        listed = members.read_values(attribute, value)
        if listed:
            yield Operation(op, path.text, [{"value": item} for item in listed])
        return
    if path.filter is not None:
        named = members.named_values(path.filter)
        if op == "replace" or named is None:
            raise errors.MutabilityViolated(f"{path.text}: a member is immutable: remove and add the member.")
        value = list(named)
    elif value is _NOT_GIVEN:
        raise errors.InvalidValue(f"The {op} of {path.text} needs a value.")
    read = members.read(attribute, value)  # none at all for null, which is no mention of the members
    if read or (read == [] and op == "replace"):
        yield Operation(op, path.reference.path, read)


def _read_only(path: Path) -> bool:
    reference = path.reference
    return "readOnly" in (reference.attribute.mutability, reference.target.mutability)


def is_apart(path: Path, resource_type: ResourceType) -> bool:
    """Whether a path is aimed at what is kept in rows of its own, like the members of a group."""
    return path.reference.urn is None and path.reference.attribute.name in resource_type.stored_apart


def _is_extension(path: Path, resource_type: ResourceType) -> bool:
    return path.reference.attribute.name.lower() in resource_type.extension_attributes
