"""Moments as people write and read them at a command line: UTC, ISO 8601, or an age like 2h."""

from __future__ import annotations

import datetime
import re
from typing import Final

from usher_core.changes import records
from usher_core.tenants import durations

_DAYS: Final = re.compile(r"([0-9]{1,5})d(.*)", re.DOTALL)


def parse(text: str) -> datetime.datetime:
    """Read a moment or an age.

    Raises:
        ValueError: it is neither.
    """
    days = _DAYS.fullmatch(text)
    if days is not None or text[-1:] in ("h", "m", "s"):
        age = datetime.timedelta(days=int(days[1])) if days else datetime.timedelta()
        rest = days[2] if days else text
        return records.now() - age - (durations.parse(rest) if rest else datetime.timedelta())
    moment = datetime.datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=datetime.UTC)


def iso(moment: datetime.datetime) -> str:
    """Write a moment in UTC, to the microsecond, so that it can be given back."""
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def short(moment: datetime.datetime) -> str:
    """Write a moment in UTC, to the millisecond, for a table."""
    return f"{iso(moment)[:23]}Z"


def age(seconds: float) -> str:
    """Write how long something took or waits, in the unit that fits."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 120:
        return f"{seconds:.1f}s"
    for size, unit in ((86_400, "d"), (3_600, "h")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds / 60:.1f}m"
