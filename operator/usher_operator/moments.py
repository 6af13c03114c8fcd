"""Moments as Kubernetes writes them: UTC, whole seconds, `Z`.

Called wherever a moment goes into a status, a condition or an annotation.
"""

from __future__ import annotations

from datetime import UTC, datetime


def text_of(moment: datetime) -> str:
    """Write a moment; fractions of a second are cut off."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read(text: str) -> datetime | None:
    """Read a moment; `None` for what is none, or says nothing of its zone."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def minute_of(moment: datetime) -> str:
    """Write a moment to the minute, for what would else change too often."""
    return text_of(moment.replace(second=0))
