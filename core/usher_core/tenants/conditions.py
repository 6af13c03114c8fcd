"""The conditions of a tenant, as data: what is ready, and if not, why.

`reconciliations` makes them; the operator writes them into the status, `usher dev` prints them. Invariant:
no message quotes anything out of a Secret.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Final, Literal, TypeAlias

ConditionType: TypeAlias = Literal[
    "Ready", "SSOReady", "TokensIssued", "EndpointReady", "SchemasReady", "Suspended", "Conflict"
]


CHECKING: Final = "Checking"
"""The reason of a condition that will soon be another one by itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Condition:
    """One condition; `reason` is a word for programs, `message` a sentence for people."""

    type: ConditionType
    status: Literal["True", "False", "Unknown"]
    reason: str
    message: str


def true(type_: ConditionType, reason: str, message: str) -> Condition:
    """Make a condition that holds."""
    return Condition(type_, "True", reason, message)


def false(type_: ConditionType, reason: str, message: str) -> Condition:
    """Make a condition that doesn't hold."""
    return Condition(type_, "False", reason, message)


def ready(parts: Iterable[Condition], *, sso_required: bool) -> Condition:
    """Sum up: a tenant is ready when nothing that it needs fails; the first failure is told."""
    for part in parts:
        needed = part.type != "SSOReady" or sso_required
        good = "False" if part.type in ("Suspended", "Conflict") else "True"
        if needed and part.status != good:
            return false("Ready", part.reason, part.message)
    return true("Ready", "Ready", "the identity provider can provision this tenant")
