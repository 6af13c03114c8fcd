"""A ScimTenant's status: built from what a reconciliation found, written only where it differs.

Called by `handlers`. Invariant: no token, no value of a Secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from usher_core.tenants import reconciliations, rotations
from usher_core.tenants.conditions import Condition
from usher_operator import conditions, moments


def of_reconciled(
    existing: Mapping[str, Any], done: reconciliations.Reconciled, generation: int, now: datetime
) -> dict[str, Any]:
    """Build what changes in the status; `None` removes a field."""
    expiries = [token.current.expires_at for token in done.tokens]
    return _changes(
        existing,
        {
            "observedGeneration": generation,
            "conditions": conditions.merge(
                existing.get("conditions") or [], done.conditions, generation, now
            ),
            "endpoint": None if done.url is None else {"url": done.url},
            "tokens": [_token(token) for token in done.tokens],
            "tokensExpireAt": moments.text_of(min(expiries)) if expiries else None,
            "users": done.users,
            "groups": done.groups,
        },
    )


def of_failure(
    existing: Mapping[str, Any], ready: Condition, generation: int, now: datetime
) -> dict[str, Any]:
    """Build what changes in the status when nothing could be reconciled: Ready, the rest is as it was.

    A spec that was judged has been observed; one that couldn't be looked at has not.
    """
    wanted: dict[str, Any] = {
        "conditions": conditions.merge(existing.get("conditions") or [], [ready], generation, now)
    }
    if ready.status == "False":
        wanted["observedGeneration"] = generation
    return _changes(existing, wanted)


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


def _changes(existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in wanted.items() if existing.get(key) != value}
