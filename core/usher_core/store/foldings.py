"""Folded copies of what is stored, so that PostgreSQL can compare text without regard to case.

`rowsets` writes them beside documents and members. A copy exists only where it must: of ASCII, `lower()` in
PostgreSQL says the same. It holds every text folded, whatever the schema says of its case, so that it stays
true when a schema changes; texts whose case counts are compared in the document itself.
"""

from __future__ import annotations

from typing import Any

import orjson

from usher_core.scim import documents


def document(stored: dict[str, Any]) -> dict[str, Any] | None:
    """Fold the texts of a document; `None` when all of them are ASCII."""
    if orjson.dumps(stored).isascii():
        return None
    folded: dict[str, Any] = _folded(stored)
    return folded


def text(stored: str | None) -> str | None:
    """Fold one text; `None` when there is none or it is ASCII."""
    if stored is None or stored.isascii():
        return None
    return documents.fold_caseless(stored)


def as_json(stored: dict[str, Any]) -> str | None:
    """Fold a document into JSON; `None` as for `document`."""
    folded = document(stored)
    return None if folded is None else orjson.dumps(folded).decode()


def _folded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _folded(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_folded(item) for item in value]
    return documents.fold_caseless(value) if isinstance(value, str) else value
