"""What a tenant's configuration decides about a write before it is queued; called by the writing handlers.

Here stands what needs no state. What depends on the user as it is at the change's turn is decided there, by
`usher_core.changes.policies`: whether a PUT only deactivates, whether a PATCH changes anything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from usher_core import errors
from usher_core.changes import policies
from usher_core.scim import documents, patches, paths, references, schemas
from usher_core.tenants import configs, specs

# What a PATCH of a user may take, and what any write of a user may.
CHANGES: frozenset[specs.Action] = frozenset({"UpdateUsers", "DeactivateUsers"})
WRITES: frozenset[specs.Action] = CHANGES | {"CreateUsers", "DeleteUsers"}

# Clients may write these for a known sub-attribute; `scim.readers` tells which client does.
ALIASES = frozenset({"manager.managerid", "roles.displayname"})


def admit_create(config: configs.TenantConfig, kind: schemas.ResourceType) -> None:
    """Insist that the tenant lets resources of this kind be created.

    Raises:
        Forbidden: it leaves out CreateUsers or PushGroups.
    """
    _admit(config, kind, "CreateUsers")


def admit_delete(config: configs.TenantConfig, kind: schemas.ResourceType) -> None:
    """Insist that the tenant lets resources of this kind be deleted.

    Raises:
        Forbidden: it leaves out DeleteUsers or PushGroups.
    """
    _admit(config, kind, "DeleteUsers")


def admit_change(
    config: configs.TenantConfig, kind: schemas.ResourceType, operations: Sequence[patches.Operation] = ()
) -> None:
    """Insist that the tenant lets resources of this kind be changed, as far as that is known beforehand.

    Raises:
        Forbidden: it leaves out PushGroups, or what every change of a user, or this one, takes.
    """
    if operations and all(map(_deactivates, operations)):
        _admit(config, kind, "DeactivateUsers")
    elif "DeactivateUsers" not in config.actions or kind.name != policies.USERS:
        # With DeactivateUsers alone a change may still be one that only deactivates: its turn will tell.
        _admit(config, kind, "UpdateUsers")


def _admit(config: configs.TenantConfig, kind: schemas.ResourceType, action: str) -> None:
    if kind.name == policies.USERS:
        policies.require(config.actions, action)
    elif kind.stored_apart:
        policies.require(config.actions, "PushGroups")


def _deactivates(operation: patches.Operation) -> bool:
    return operation.path_text == "active" and (operation.op == "remove" or operation.value is False)


def admits_patches(config: configs.TenantConfig, registry: schemas.Registry) -> bool:
    """Tell whether the tenant lets any resource be changed, in whatever way."""
    return any(_takes_one_of(config, kind, CHANGES) for kind in registry.resource_types)


def admits_writes(config: configs.TenantConfig, registry: schemas.Registry) -> bool:
    """Tell whether the tenant lets anything be written at all."""
    return any(_takes_one_of(config, kind, WRITES) for kind in registry.resource_types)


def _takes_one_of(
    config: configs.TenantConfig, kind: schemas.ResourceType, of_users: frozenset[specs.Action]
) -> bool:
    if kind.name == policies.USERS:
        return not of_users.isdisjoint(config.actions)
    # No action is about resources of a tenant's own types.
    return not kind.stored_apart or "PushGroups" in config.actions


def patch_status(config: configs.TenantConfig, kind: schemas.ResourceType) -> int:
    """Tell how a PATCH that succeeds is answered: 200 with the resource or 204 (RFC 7644 §3.5.2)."""
    if kind.name == policies.USERS:
        return config.user_patch_status
    # Entra expects 204 for a group, and the whole group may be large.
    return config.group_patch_status if kind.stored_apart else 200


def read_document(
    config: configs.TenantConfig, kind: schemas.ResourceType, body: Any, *, is_new: bool
) -> dict[str, Any]:
    """Read the body of a POST (`is_new`) or a PUT as the tenant wants it read.

    The userName of a PUT is looked at in its turn, for one that was there before the rule may stay.

    Raises:
        ScimError: what `documents.normalise` raises.
        InvalidValue: an attribute that no schema knows, where these are refused; a userName that is no email
            address, where it must be one.
    """
    document = documents.normalise(kind, body, ignore_unknown=config.ignore_unknown_attributes)
    if not config.ignore_unknown_attributes:
        for name, value in body.items():
            _refuse_unknown_inside(name, value, kind)
    if is_new and kind.name == policies.USERS and config.user_name_format == "Email":
        policies.require_address(document["userName"])
    return document


def read_patch(
    config: configs.TenantConfig, kind: schemas.ResourceType, body: Any
) -> tuple[patches.Operation, ...]:
    """Read a PATCH message as the tenant wants it read.

    Raises:
        ScimError: what `patches.parse` raises.
        InvalidPath: an operation without a path, where these are refused.
        InvalidValue: an attribute that no schema knows, where these are refused.
    """
    operations = patches.parse(body, kind)
    if not config.pathless_patch or not config.ignore_unknown_attributes:
        for number, (path, value) in enumerate(_given(body)):
            if path is None and not config.pathless_patch:
                raise errors.InvalidPath(
                    f"Operations[{number}] has no path, and this tenant refuses such operations "
                    "(its pathlessPatch is Reject): name in path the attribute that it is about."
                )
            if not config.ignore_unknown_attributes:
                _refuse_unknown_given(path, value, kind)
    return operations


def _given(body: Mapping[str, Any]) -> Iterator[tuple[str | None, Any]]:
    """List path and value of each operation of a message that was found to be well-formed."""
    fields = {key.lower(): value for key, value in body.items()}
    for item in fields["operations"]:
        given = {key.lower(): value for key, value in item.items()}
        yield given.get("path") or None, given.get("value")


def _refuse_unknown_given(path: str | None, value: Any, kind: schemas.ResourceType) -> None:
    if path is not None:
        _refuse_unknown_inside(path, value, kind)
    elif isinstance(value, dict):
        for name, held in value.items():
            _refuse_unknown_inside(name, held, kind)


def _refuse_unknown_inside(name: str, value: Any, kind: schemas.ResourceType) -> None:
    """Refuse a name that no schema knows, and any such name within its value."""
    try:
        reference = paths.parse(name, kind).reference
    except errors.InvalidPath as exc:
        raise errors.InvalidValue(exc.detail) from None
    known = reference.target.sub_attributes
    if not known:
        return
    for element in value if isinstance(value, list) else [value]:
        for key in element if isinstance(element, dict) else ():
            lowered = key.lower()
            if lowered not in known and f"{reference.target.name}.{lowered}" not in ALIASES:
                names = (sub.name for sub in known.values() if not sub.hidden)
                raise errors.InvalidValue(
                    references.describe_unknown_among(key, names, f"{reference.path} of {kind.name}")
                )
    _refuse_unknown_in_extension(reference, value, kind)


def _refuse_unknown_in_extension(
    reference: references.AttributeReference, value: Any, kind: schemas.ResourceType
) -> None:
    urn = reference.attribute.name
    if urn.lower() in kind.extension_attributes and isinstance(value, dict):
        for name, held in value.items():
            _refuse_unknown_inside(f"{urn}:{name}", held, kind)
