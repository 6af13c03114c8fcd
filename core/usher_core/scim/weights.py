"""Weights: how much a PATCH message asks for, told before any of it is read.

`operations` asks here first. Reading a value or a filter takes far longer than finding it in the JSON, so a
body within the limit of bytes could still take seconds; what passes here is read in milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from usher_core import errors
from usher_core.scim import members, references
from usher_core.scim.schemas import ResourceType

# Characters of all paths and keys that have a filter.
MAX_FILTERS: Final = 32_768
# What all lists and objects hold, members of a group apart.
MAX_VALUES: Final = 10_000


def refuse_heavy(operations: Iterable[Mapping[str, Any]], resource_type: ResourceType) -> None:
    """Refuse operations, their own names in lower case, that would take long to read.

    Raises:
        InvalidValue: naming what there is too much of, and the limit.
    """
    filters = values = apart = 0
    pending = [(item.get("path") or "", item.get("value")) for item in operations]
    while pending:
        name, value = pending.pop()
        filters += len(name) if isinstance(name, str) and "[" in name else 0
        if _is_apart(name, resource_type):
            apart += len(value) if isinstance(value, list) else 1
        elif isinstance(value, dict | list):
            values += len(value)
            if values <= MAX_VALUES:
                pending += value.items() if isinstance(value, dict) else (("", item) for item in value)
        if values > MAX_VALUES:
            raise errors.InvalidValue(
                f"The operations hold more than {MAX_VALUES} values: send fewer at once."
            )
        if filters > MAX_FILTERS:
            raise errors.InvalidValue(
                f"The filters of the operations are longer than {MAX_FILTERS} characters: send fewer at once."
            )
    members.refuse_many("The operations on members", apart)


def _is_apart(name: Any, resource_type: ResourceType) -> bool:
    if not resource_type.stored_apart or not isinstance(name, str):
        return False
    reference = references.resolve(name.partition("[")[0].strip(), resource_type)
    return (
        reference is not None
        and reference.urn is None
        and reference.attribute.name in resource_type.stored_apart
    )
