"""The annotation by which a person has tokens rotated: `usher.dev/rotate: okta`, several with commas.

`looks` reads it. So that a request acts once, whenever the operator dies, it is first given its moment, as
`okta@2026-11-24T12:00:00.123456+00:00`: a token that was issued before then is to be rotated, a younger one
is the answer. What was answered, or names no token, is taken off.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from usher_operator import moments

ANNOTATION = "usher.dev/rotate"


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """What the annotation asks for; `wanted` has no moment for what was not given one yet."""

    wanted: Mapping[str, datetime | None]
    unknown: tuple[str, ...]
    """What it names and the spec does not."""

    @property
    def stamped(self) -> dict[str, datetime]:
        """The tokens to rotate, each with the moment before which it was issued."""
        return {name: moment for name, moment in self.wanted.items() if moment is not None}

    def stamp(self, now: datetime) -> str:
        """Write the annotation with a moment for each name."""
        return ",".join(f"{name}@{(moment or now).isoformat()}" for name, moment in self.wanted.items())

    @property
    def is_stamped(self) -> bool:
        """Whether each name has its moment."""
        return None not in self.wanted.values()


def read(metadata: Mapping[str, Any], names: Collection[str], now: datetime) -> Request | None:
    """Read the annotation of an object whose spec has these tokens; `None` when there is none.

    A moment that is yet to come counts for none: no token could answer it.
    """
    text = (metadata.get("annotations") or {}).get(ANNOTATION)
    if text is None:
        return None
    wanted: dict[str, datetime | None] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, at, moment = part.partition("@")
        stamped = moments.read(moment) if at else None
        wanted[name] = stamped if stamped is not None and stamped <= now else None
    known = {name: moment for name, moment in wanted.items() if name in names}
    return Request(known, tuple(name for name in wanted if name not in known))


def still_open(request: Request, issued: Mapping[str, datetime]) -> dict[str, datetime]:
    """List what is not answered yet, given when the tokens that are held now were issued."""
    return {
        name: moment
        for name, moment in request.stamped.items()
        if name not in issued or issued[name] < moment
    }
