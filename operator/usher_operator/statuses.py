"""A ScimTenant's status: built from what a reconciliation found and from the figures.

Called by `looks` and `statistics`; `status_writes` writes what differs. Invariant: no token, no value of a
Secret; what is not known is not there.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from usher_core.store import figures
from usher_core.tenants import reconciliations, rotations
from usher_core.tenants.conditions import Condition
from usher_operator import conditions, moments


def of_reconciled(
    existing: Mapping[str, Any], done: reconciliations.Reconciled, generation: int, now: datetime
) -> dict[str, Any]:
    """Build all that a reconciliation tells; `None` is a field that is not there."""
    expiries = [token.current.expires_at for token in done.tokens]
    return {
        "observedGeneration": generation,
        "conditions": conditions.merge(existing.get("conditions") or [], done.conditions, generation, now),
        "endpoint": None if done.url is None else {"url": done.url},
        "tokens": [_token(token) for token in done.tokens],
        "tokensExpireAt": moments.text_of(min(expiries)) if expiries else None,
    } | _counted(done.figures)


def of_figures(existing: Mapping[str, Any], found: figures.Figures, pending: int | None) -> dict[str, Any]:
    """Build what the figures tell; `pending` is `None` when nobody could count."""
    tokens = [
        token | ({"lastUsedAt": moments.minute_of(used)} if used is not None else {})
        for token in existing.get("tokens") or ()
        for used in [found.used.get(token.get("id"))]
    ]
    return _counted(found) | {"pendingChanges": pending, "tokens": tokens or None}


def _counted(found: figures.Figures) -> dict[str, Any]:
    return {
        "users": found.users,
        "groups": found.groups,
        "deadLetters": found.dead_letters,
        "lastChangeTime": None if found.last_change is None else moments.text_of(found.last_change),
    }


def of_failure(
    existing: Mapping[str, Any], ready: Condition, generation: int, now: datetime
) -> dict[str, Any]:
    """Build what is told when nothing could be reconciled: Ready, the rest is as it was.

    A spec that was judged has been observed; one that couldn't be looked at has not.
    """
    wanted: dict[str, Any] = {
        "conditions": conditions.merge(existing.get("conditions") or [], [ready], generation, now)
    }
    if ready.status == "False":
        wanted["observedGeneration"] = generation
    return wanted


def _token(token: rotations.TokenStatus) -> dict[str, Any]:
    row = token.current
    written: dict[str, Any] = {
        "name": token.name,
        "id": row.token_id,
        "issuedAt": moments.text_of(row.issued_at),
        "expiresAt": moments.text_of(row.expires_at),
        "renewAt": moments.text_of(token.renew_at),
    }
    if row.last_used_at is not None:
        written["lastUsedAt"] = moments.minute_of(row.last_used_at)
    if token.previous is not None:
        written["previous"] = {
            "id": token.previous.token_id,
            "validUntil": moments.text_of(token.previous.ends_at),
        }
    return written
