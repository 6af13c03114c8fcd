"""What a tenant lets its identity provider do: the part of its configuration that decides about writes.

The store hands a `Policy` to each batch, read in the batch's own transaction, so that a unit of work obeys
what holds at the turn of a change. The api asks the same functions for what needs no state. Invariant: a
refusal names the action, or the attribute, and says what is expected.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from usher_core import errors

ACTIONS: Final[Mapping[str, str]] = {
    "CreateUsers": "users can't be created",
    "UpdateUsers": "users can't be changed",
    "DeactivateUsers": "users can't be deactivated",
    "DeleteUsers": "users can't be deleted",
    "PushGroups": "groups can't be created, changed or deleted",
}
"""The actions of `spec.provisioning.actions`, and what a tenant without one of them can't do."""

USERS: Final = "User"
"""The resource type that the actions on users are about."""

GROUPS: Final = "Group"
"""The resource type whose members are rows."""

LONGEST_ADDRESS: Final = 254
"""RFC 5321 §4.5.3.1.3 allows a path of 256 octets, its angle brackets included."""

_ADDRESS: Final = re.compile(r"[^@\s\x00-\x1f\x7f-\x9f]+@[^@\s\x00-\x1f\x7f-\x9f]+")


@dataclasses.dataclass(frozen=True, slots=True)
class Policy:
    """What holds for a batch; the defaults are the manifest's."""

    actions: frozenset[str] = frozenset(ACTIONS)
    email_names: bool = True
    revive_inactive: bool = True
    keep_deleted: bool = True
    ignore_unknown: bool = True

    def admit_change(self, kind: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> None:
        """Insist that a user may become what a PUT or PATCH makes of it; what changes nothing may be sent.

        Raises:
            Forbidden: the tenant leaves out UpdateUsers or DeactivateUsers, which this takes.
            InvalidValue: another userName, which is no email address.
        """
        if kind != USERS or before == after:
            return
        was, is_now = before.get("active"), after.get("active")
        # A PATCH that removes the attribute takes the access away too.
        deactivated = was is not False and is_now is not True and was != is_now
        if deactivated:
            require(self.actions, "DeactivateUsers")
        if not deactivated or _rest(before) != _rest(after):
            require(self.actions, "UpdateUsers")
        # A name that was there before the rule may stay: its user must still be changed and deactivated.
        if self.email_names and before.get("userName") != after.get("userName"):
            require_address(after.get("userName"))


def from_document(document: Mapping[str, Any]) -> Policy:
    """Read the column `config` of a tenant's row; what it lacks has its default."""
    return Policy(
        actions=frozenset(document.get("actions", ACTIONS)),
        email_names=document.get("user_name_format", "Email") == "Email",
        revive_inactive=document.get("revive_inactive", True),
        # A duration such as 720h; of one that lasts nothing only zeros and units are left.
        keep_deleted=bool(document.get("deleted_retention", "720h").strip("0hms")),
        ignore_unknown=document.get("ignore_unknown_attributes", True),
    )


def require(actions: Collection[str], action: str) -> None:
    """Insist that an action is among those of the tenant.

    Raises:
        Forbidden: it was left out.
    """
    if action not in actions:
        raise errors.Forbidden(f"This tenant's provisioning.actions leave out {action}: {ACTIONS[action]}.")


def require_address(name: Any) -> None:
    """Insist that a userName looks like an email address.

    The rule is short on purpose, for what an address may be is for its mail server to say: one @ with
    something before and behind it, no space or control character, at most 254 characters. `@corp.local`,
    plus signs and letters of any script are fine.

    Raises:
        InvalidValue: it does not; says what is expected.
    """
    if not is_address(name):
        raise errors.InvalidValue(
            f"userName must be an email address, like ada@example.com: one @ with something before and after "
            f"it, no spaces, at most {LONGEST_ADDRESS} characters. This tenant's userNameFormat is Email."
        )


def is_address(name: Any) -> bool:
    """Tell whether a userName looks like an email address."""
    return isinstance(name, str) and len(name) <= LONGEST_ADDRESS and _ADDRESS.fullmatch(name) is not None


def _rest(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "active"}
