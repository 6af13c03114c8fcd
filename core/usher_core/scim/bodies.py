"""Bodies: what is refused of any of them, resource or message, before its content is read.

`documents` asks here for resources, `operations`, `bulks` and `searches` for their messages. What passes is
not nested too deep for those that follow, and of no other version of the protocol.
"""

from __future__ import annotations

from typing import Any, Final

from usher_core import errors
from usher_core.scim import readers

MAX_DEPTH: Final = 32


def refuse_other_versions(schemas: Any) -> None:
    """Refuse a message whose `schemas` are all of SCIM 1.x, and `schemas` that are no list of strings.

    One that holds them beside ours is fine: OneLogin sends both.
    """
    listed = [schemas] if isinstance(schemas, str) else schemas or []
    if not isinstance(listed, list) or not all(isinstance(urn, str) for urn in listed):
        raise errors.InvalidValue("schemas must be a list of strings.")
    readers.refuse_many(listed, "schemas")
    if listed and all(urn.lower().startswith("urn:scim:schemas:") for urn in listed):
        raise errors.InvalidVersion("This service speaks SCIM 2.0 only; the schemas sent are of SCIM 1.x.")


def require_message(schemas: Any, urn: str) -> None:
    """Refuse a message whose `schemas` name others than its own; they may be left out."""
    refuse_other_versions(schemas)
    urns = [schemas] if isinstance(schemas, str) else schemas or []
    if urns and urn.lower() not in {one.lower() for one in urns}:
        raise errors.InvalidSyntax(f"schemas must hold {urn}.")


def refuse_deep(value: Any) -> None:
    """Refuse JSON that is nested deeper than `MAX_DEPTH` levels; what follows may rely on it."""
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for item in level
            for child in (item.values() if type(item) is dict else item)
            # Of JSON nothing else is nested; isinstance would take twice as long for a million values.
            if type(child) is dict or type(child) is list
        ]
        if not level:
            return
    raise errors.InvalidSyntax(f"The body is nested deeper than {MAX_DEPTH} levels.")
