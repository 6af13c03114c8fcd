"""A tenant's effective configuration, as it travels from the manifest to each request.

`reconciliations` writes it to the column `config` of the tenant's row; the api gets it with each
`Principal`. Invariant: a row written by an older version reads well, what it lacks has its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Literal

from usher_core.tenants import durations, specs


@dataclasses.dataclass(frozen=True, slots=True)
class TenantConfig:
    """What an identity provider may do at a tenant, and how its dialect is met."""

    actions: frozenset[specs.Action] = frozenset(specs.ALL_ACTIONS)
    user_name_format: Literal["Email", "Any"] = "Email"
    user_patch_status: int = 200
    group_patch_status: int = 204
    pathless_patch: bool = True
    ignore_unknown_attributes: bool = True
    revive_inactive: bool = True
    deleted_retention: timedelta = timedelta(hours=720)
    requests_per_second: int = 0
    """Writes a second; 0 is without limit, as with reads."""
    reads_per_second: int = 0
    max_pending_changes: int = 100_000
    suspend_revocations: bool = False
    host_taken: bool = False
    """The host that the tenant asks for belongs to another tenant: it is served nowhere."""


def of_spec(spec: specs.Spec, *, host_taken: bool = False) -> TenantConfig:
    """Take from a manifest what requests need to know."""
    compatibility = spec.provisioning.compatibility
    return TenantConfig(
        actions=frozenset(spec.provisioning.actions),
        user_name_format=spec.provisioning.user_name_format,
        user_patch_status=int(compatibility.user_patch_status),
        group_patch_status=int(compatibility.group_patch_status),
        pathless_patch=compatibility.pathless_patch == "Accept",
        ignore_unknown_attributes=compatibility.unknown_attributes == "Ignore",
        revive_inactive=compatibility.revive_inactive,
        deleted_retention=compatibility.deleted_retention,
        requests_per_second=spec.limits.requests_per_second or 0,
        reads_per_second=spec.limits.reads_per_second or 0,
        max_pending_changes=spec.limits.max_pending_changes,
        suspend_revocations=spec.suspend_revocations,
        host_taken=host_taken,
    )


def to_document(config: TenantConfig) -> dict[str, Any]:
    """Write the JSON form; sets are sorted, so that equal configurations are equal documents."""
    document = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    document["actions"] = sorted(config.actions)
    document["deleted_retention"] = durations.text_of(config.deleted_retention)
    return document


def from_document(document: Mapping[str, Any]) -> TenantConfig:
    """Read the JSON form; what it doesn't know of is left out, what it lacks has its default."""
    known = {field.name for field in dataclasses.fields(TenantConfig)}
    values = {key: value for key, value in document.items() if key in known}
    if "actions" in values:
        values["actions"] = frozenset(values["actions"])
    if "deleted_retention" in values:
        values["deleted_retention"] = durations.parse(values["deleted_retention"])
    return TenantConfig(**values)
