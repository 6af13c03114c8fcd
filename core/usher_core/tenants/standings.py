"""How each token of a tenant stands, as `usher tokens list` shows it.

Called by `runs`. Pure, the clock handed in. Invariant: a token has one state, and at most one token of a
name is current: the living one that was issued last.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

from usher_core import ids
from usher_core.store import tenants
from usher_core.tenants import renewals

State: TypeAlias = Literal["current", "previous", "revoked", "expired"]

HEAD: Final = ("NAME", "ID", "ROLE", "ISSUED", "EXPIRES", "LAST USED", "STATE")


def living(rows: Iterable[tenants.TokenRow], now: datetime) -> list[tenants.TokenRow]:
    """List the tokens that still work, the one issued last first."""
    alive = [row for row in rows if renewals.is_alive(row, now)]
    return sorted(alive, key=lambda row: (row.issued_at, row.token_id), reverse=True)


def current(rows: Iterable[tenants.TokenRow], now: datetime) -> list[tenants.TokenRow]:
    """List the living token of each name that was issued last."""
    return list({row.name: row for row in reversed(living(rows, now))}.values())


def describe(rows: Sequence[tenants.TokenRow], now: datetime) -> list[dict[str, Any]]:
    """Describe tokens as JSON, by name, the one issued last first."""
    in_use = {row.token_id for row in current(rows, now)}
    ordered = sorted(rows, key=lambda row: (row.issued_at, row.token_id), reverse=True)
    return [
        {
            "name": row.name,
            "id": row.token_id,
            "role": row.role,
            "issuedAt": _iso(row.issued_at),
            "expiresAt": _iso(row.expires_at),
            "lastUsedAt": _iso(row.last_used_at),
            "state": (state := _state(row, in_use, now)),
            # When it stops to work, or stopped.
            "endsAt": _iso(row.revoked_at if state == "revoked" else row.ends_at),
            "awaitsUseOfNext": state == "previous" and row.valid_until is None,
            "rotateRequestedAt": _iso(row.rotate_requested_at) if state == "current" else None,
        }
        for row in sorted(ordered, key=lambda row: row.name)
    ]


def cells(shown: Mapping[str, Any]) -> tuple[object, ...]:
    """Make the line of a token in a table."""
    state = shown["state"]
    if shown["awaitsUseOfNext"]:
        state = "previous, until the next one is used"
    elif state == "previous":
        state = f"previous until {shown['endsAt']}"
    elif state == "revoked":
        state = f"revoked {shown['endsAt']}"
    elif shown["rotateRequestedAt"] is not None:
        state = "current, rotation requested"
    times = (shown["issuedAt"], shown["expiresAt"], shown["lastUsedAt"] or "never")
    return (shown["name"], shown["id"], shown["role"], *times, state)


def _state(row: tenants.TokenRow, current: Container[ids.TokenId], now: datetime) -> State:
    if row.revoked_at is not None:
        return "revoked"
    if not renewals.is_alive(row, now):
        return "expired"
    return "current" if row.token_id in current else "previous"


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
