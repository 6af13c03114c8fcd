"""Durations as manifests write them: hours, minutes and seconds, like `2160h` or `1h30m`.

Called by `manifests` and `configs`. The form is the CRD's: no days, for a day is not always 24 hours.
"""

from __future__ import annotations

import re
from datetime import timedelta

FORM = re.compile(r"([0-9]{1,5}[hms]){1,3}")
_PART = re.compile(r"([0-9]+)([hms])")
_UNITS = {"h": timedelta(hours=1), "m": timedelta(minutes=1), "s": timedelta(seconds=1)}


def parse(text: object) -> timedelta:
    """Read a duration.

    Raises:
        ValueError: not of the form; the message says which form.
    """
    if not isinstance(text, str) or FORM.fullmatch(text) is None:
        raise ValueError("must be a duration in hours, minutes and seconds, like 2160h or 1h30m")
    return sum((int(count) * _UNITS[unit] for count, unit in _PART.findall(text)), timedelta())


def text_of(duration: timedelta) -> str:
    """Write a duration so that `parse` reads it back; whole seconds, shortest unit that is needed.

    Raises:
        ValueError: negative, or with a fraction of a second.
    """
    seconds, rest = divmod(duration, timedelta(seconds=1))
    if seconds < 0 or rest:
        raise ValueError("a duration has whole seconds and is not negative")
    hours, minutes, seconds = seconds // 3600, seconds // 60 % 60, seconds % 60
    parts = [f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count]
    return "".join(parts) or "0s"
