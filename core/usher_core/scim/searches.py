"""Searches (RFC 7644 §3.4.2, §3.4.3): what a client asks of a list, by a query or by a body.

The api reads one a request. A search is what was asked, with the forms checked: names and filters in it are
resolved by whoever knows the resource types. Parameters that are not known are ignored: Entra ID and OneLogin
send some.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from usher_core import errors
from usher_core.scim import bodies, messages, references, values

# Beyond any number of resources, and within PostgreSQL's bigint.
_FARTHEST: Final = 2**53


@dataclass(frozen=True, slots=True)
class Search:
    """One search. `cursor`, even an empty one, asks for pages by cursor; `count` is as the client sent it."""

    filter: str | None = None
    sort_by: str | None = None
    descending: bool = False
    start_index: int = 1
    count: int | None = None
    cursor: str | None = None
    attributes: str | None = None
    excluded_attributes: str | None = None


def from_parameters(parameters: Mapping[str, str]) -> Search:
    """Read the parameters of a query.

    Raises:
        InvalidValue: startIndex or sortOrder is none.
        InvalidCount: count is no integer, or, with a cursor, not positive.
    """
    return _search(parameters)


def from_message(message: Any) -> Search:
    """Read a SearchRequest (RFC 7644 §3.4.3).

    Raises:
        InvalidSyntax: it is no JSON object, or another message by its `schemas`.
        InvalidVersion: it is of SCIM 1.x.
        InvalidValue: a member of it is of the wrong type.
        InvalidCount: count is no integer, or, with a cursor, not positive.
    """
    if not isinstance(message, dict):
        raise errors.InvalidSyntax("The body must be a JSON object that holds a search request.")
    lowered = {name.lower(): value for name, value in message.items()}
    bodies.require_message(lowered.get("schemas"), messages.SEARCH_REQUEST_SCHEMA)
    return _search({name: lowered.get(name.lower()) for name in _NAMES})


_NAMES: Final = (
    "filter", "sortBy", "sortOrder", "startIndex", "count", "cursor", "attributes", "excludedAttributes",
)  # fmt: skip


def _search(given: Mapping[str, Any]) -> Search:
    count = _integer(given, "count", errors.InvalidCount)
    cursor = _text(given, "cursor")
    if cursor is not None and count is not None and count < 1:
        raise errors.InvalidCount("count must be at least 1 with a cursor.")  # RFC 9865 §2
    start_index = _integer(given, "startIndex", errors.InvalidValue)
    return Search(
        filter=_text(given, "filter"),
        sort_by=_text(given, "sortBy") or None,
        descending=_descending(given),
        start_index=1 if start_index is None else max(start_index, 1),
        count=count,
        cursor=cursor,
        attributes=_names(given, "attributes"),
        excluded_attributes=_names(given, "excludedAttributes"),
    )


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if value is None or isinstance(value, str):
        return value
    raise values.expected(name, "a string", value)


def _integer(
    given: Mapping[str, Any], name: str, error: type[errors.InvalidValue] | type[errors.InvalidCount]
) -> int | None:
    value = given.get(name)
    if value is None or value == "":
        return None
    try:
        if isinstance(value, int | str) and not isinstance(value, bool):
            return max(min(int(value), _FARTHEST), -_FARTHEST)
    except ValueError:
        pass
    raise error(f"{name} must be an integer, not {references.shown(str(value))}.")


def _descending(given: Mapping[str, Any]) -> bool:
    order = (_text(given, "sortOrder") or "ascending").lower()
    if order not in ("ascending", "descending"):
        raise errors.InvalidValue("sortOrder must be ascending or descending.")
    return order == "descending"


def _names(given: Mapping[str, Any], name: str) -> str | None:
    value = given.get(name)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(value)
    if value is None or isinstance(value, str):
        return value
    raise values.expected(name, "a list of names", value)
