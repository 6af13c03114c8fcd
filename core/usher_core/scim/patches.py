"""PATCH (RFC 7644 §3.5.2): a message becomes checked operations, and these change a document.

The api calls `parse`, which finds all faults that need no state; what it returns travels through the queue
by `dump` and `load`, and the worker calls `apply`. `apply` is pure: all operations or an error, and the
document it was given stays as it is.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from usher_core import errors
from usher_core.scim import documents, elements, looks, members, paths
from usher_core.scim.members import Member as Member
from usher_core.scim.members import MemberOperation as MemberOperation
from usher_core.scim.members import MembersAdded as MembersAdded
from usher_core.scim.members import MembersCleared as MembersCleared
from usher_core.scim.members import MembersRemoved as MembersRemoved
from usher_core.scim.members import MembersRemovedWhere as MembersRemovedWhere
from usher_core.scim.members import MembersReplaced as MembersReplaced
from usher_core.scim.operations import Op as Op
from usher_core.scim.operations import Operation as Operation
from usher_core.scim.operations import is_apart
from usher_core.scim.operations import parse as parse
from usher_core.scim.operations import reread as reread
from usher_core.scim.paths import Path
from usher_core.scim.references import AttributeReference
from usher_core.scim.schemas import ResourceType


@dataclass(frozen=True, slots=True)
class Patched:
    """What became of a document, and what is to be done with the members, in order."""

    document: dict[str, Any]
    member_operations: tuple[MemberOperation, ...] = ()


def dump(operations: Sequence[Operation]) -> list[dict[str, Any]]:
    """Write operations as JSON, for the queue."""
    return [
        {"op": operation.op, "path": operation.path_text}
        | ({} if operation.value is None else {"value": operation.value})
        for operation in operations
    ]


def load(dumped: Sequence[Mapping[str, Any]], resource_type: ResourceType) -> tuple[Operation, ...]:
    """Read what `dump` wrote.

    Raises:
        InvalidPath: the resource type has changed since, and an attribute is no longer known.
    """
    return tuple(
        Operation(cast(Op, item["op"]), paths.parse(item["path"], resource_type).text, item.get("value"))
        for item in dumped
    )


def apply(
    resource_type: ResourceType, document: Mapping[str, Any], operations: Sequence[Operation]
) -> Patched:
    """Apply the operations in order; equal to the given document when nothing changes.

    Raises:
        NoTarget: a filter matches nothing and doesn't describe what to create.
        InvalidValue: more than one value would be primary, a required one would be missing, or all this takes
            more than `looks.MAX_LOOKS`.
        MutabilityViolated: an immutable attribute would change, or a required one vanish.
    """
    result = dict(document)
    apart: list[MemberOperation] = []
    taken = 0
    for operation in operations:
        path = paths.parse(operation.path_text, resource_type)
        if is_apart(path, resource_type):
            apart.append(_member_operation(path, operation))
            continue
        taken += looks.count(result, path, operation)
        if taken > looks.MAX_LOOKS:
            raise errors.InvalidValue(
                f"The operations take more than {looks.MAX_LOOKS} looks at values: send fewer at once."
            )
        _apply(result, path, operation)
    _check(resource_type, document, result)
    documents.refuse_oversized(resource_type, result)
    held = documents.schemas_of(resource_type, result)
    if held != documents.schemas_of(resource_type, document):
        result["schemas"] = held
    return Patched(result, tuple(apart))


def brought(resource_type: ResourceType, operation: Operation) -> Patched:
    """Tell what an operation could bring to a document, whatever that holds, and does with the members.

    The document that is returned holds each value that may be there afterwards and was not before; it need
    not be whole.
    """
    path = paths.parse(operation.path_text, resource_type)
    if is_apart(path, resource_type):
        return Patched({}, (_member_operation(path, operation),))
    value = elements.brought(path, operation.op, operation.value)
    urn, name = path.reference.urn, path.reference.attribute.name
    return Patched({name: value} if urn is None else {urn: {name: value}})


def _apply(result: dict[str, Any], path: Path, operation: Operation) -> None:
    urn, name = path.reference.urn, path.reference.attribute.name
    holder = result if urn is None else dict(result.get(urn) or {})
    changed = elements.changed(path, operation.op, operation.value, holder.get(name))
    if changed is None:
        holder.pop(name, None)
    else:
        holder[name] = changed
    if urn is not None:
        if holder:
            result[urn] = holder
        else:
            result.pop(urn, None)


def _check(resource_type: ResourceType, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
    for extension in resource_type.extensions:
        urn = extension.schema.id
        # Without its last attribute an extension is gone.
        if extension.required and before.get(urn) and not after.get(urn):
            raise errors.MutabilityViolated(f"{urn} is required: it can't be removed.")
    for reference in _needed(resource_type):
        if reference.urn is not None and not after.get(reference.urn):
            continue
        if not documents.found(reference, after):
            if documents.found(reference, before):
                raise errors.MutabilityViolated(f"{reference.path} is required: it can't be removed.")
            if reference.urn is not None and reference.urn not in before:
                raise errors.InvalidValue(f"{reference.path} is required.")
    for reference in _needing_subs(resource_type):
        held = documents.found(reference, after)
        if held != documents.found(reference, before):
            _require_subs(reference, held)
    documents.refuse_immutable(resource_type, before, after)


@functools.lru_cache(maxsize=1024)
def _needed(resource_type: ResourceType) -> tuple[AttributeReference, ...]:
    return tuple(
        reference
        for reference in documents.references_of(resource_type)
        if reference.sub_attribute is None and documents.needed(reference.attribute)
    )


@functools.lru_cache(maxsize=1024)
def _needing_subs(resource_type: ResourceType) -> tuple[AttributeReference, ...]:
    return tuple(
        reference
        for reference in documents.references_of(resource_type)
        if reference.sub_attribute is None
        and any(documents.needed(sub) for sub in reference.attribute.sub_attributes.values())
    )


def _require_subs(reference: AttributeReference, held: Sequence[Any]) -> None:
    for sub in reference.attribute.sub_attributes.values():
        if documents.needed(sub) and any(sub.name not in element for element in held):
            raise errors.InvalidValue(f"{reference.path}.{sub.name} is required.")


def _member_operation(path: Path, operation: Operation) -> MemberOperation:
    value = operation.value
    match operation.op:
        case "add":
            return MembersAdded(members.load(value))
        case "replace":
            return MembersReplaced(members.load(value))
        case "remove" if path.filter is not None:
            named = members.named_values(path.filter)
            return MembersRemovedWhere(path.filter) if named is None else MembersRemoved(named)
        case "remove" if value is not None:
            return MembersRemoved(tuple(item["value"] for item in value))
        case _:
            return MembersCleared()
