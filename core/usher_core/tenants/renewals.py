"""What should become of a tenant's tokens: pure decisions over rows, the clock handed in.

Called by `reconciliations` for each token of a spec. Invariant: decisions follow from what is (the rows,
the id that the Secret holds), never from what was done before, so a restart changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from usher_core.store import tenants
from usher_core.tenants import specs, tokens

# The operator looks at a tenant every five minutes: a shorter renewBefore would come too late.
EARLIEST_RENEWAL = timedelta(minutes=10)


def is_alive(row: tenants.TokenRow, now: datetime) -> bool:
    """Tell whether a token still works."""
    return row.revoked_at is None and now < row.ends_at


def renew_at(row: tenants.TokenRow, spec: specs.Token) -> datetime:
    """Tell when a token gets a successor; a ttl that was shortened counts for living tokens too."""
    end = min(row.expires_at, row.issued_at + spec.ttl)
    return end - max(spec.renew_before, EARLIEST_RENEWAL)


def is_due(held: tenants.TokenRow, spec: specs.Token, now: datetime, rotate_before: datetime | None) -> bool:
    """Tell whether the held token needs a successor: its time has come, or somebody asked for one.

    `rotate_before`: a token that was issued before then is to be rotated, a younger one is the answer.
    """
    asked = rotate_before is not None and held.issued_at < rotate_before
    return asked or held.rotate_requested_at is not None or now >= renew_at(held, spec)


def held_row(text: str | None, rows: Sequence[tenants.TokenRow], now: datetime) -> tenants.TokenRow | None:
    """Find the living row, among those of one name, whose token the Secret holds.

    A token that already had its successor does not count: somebody put back an old Secret.
    """
    if text is None:
        return None
    try:
        parsed = tokens.parse(text)
    except tokens.TokenMalformed:
        return None
    for row in rows:
        if row.token_id == parsed.token_id and tokens.matches(parsed.digest, row):
            newer_in_use = any(
                other.issued_at > row.issued_at and other.last_used_at is not None and is_alive(other, now)
                for other in rows
            )
            superseded = row.valid_until is not None or newer_in_use
            return row if is_alive(row, now) and not superseded else None
    return None


def orphans(others: Iterable[tenants.TokenRow], held: tenants.TokenRow | None) -> list[tenants.TokenRow]:
    """Find tokens that nobody can have: the process died between the row and the Secret.

    `others` are the living rows of one name that no Secret holds. One that was seen in its Secret, or was
    used, somebody may have; one older than the held token was held before it.
    """
    return [
        row
        for row in others
        if row.delivered_at is None
        and row.last_used_at is None
        and row.valid_until is None
        and (held is None or row.issued_at >= held.issued_at)
    ]


def overlap_end(
    row: tenants.TokenRow, current: tenants.TokenRow, spec: specs.Token, now: datetime
) -> datetime | None:
    """Tell until when a token works beside its successor; `None` is until its own expiry.

    It works for `overlap` after the issue of the new one, and on until the new one was seen in use.
    """
    if row.valid_until is not None:
        return row.valid_until
    if current.last_used_at is None:
        return None
    return min(row.expires_at, max(current.issued_at + spec.overlap, now))
