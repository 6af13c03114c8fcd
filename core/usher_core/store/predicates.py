"""Filters as SQL: each becomes one parameterised expression over `resources r`.

No row is ever filtered in Python, and every value travels as a parameter. What can't be compiled is
refused: a look-up that silently matched nothing would make the client create a duplicate.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from usher_core import errors, ids
from usher_core.changes import snapshots
from usher_core.scim import documents, filters, schemas

# What each compiled look-up reads is an index that leads with the tenant.
BY_ID = "r.id = %s"
BY_UNIQUE = (
    "r.id = (SELECT u.id FROM unique_values u"
    " WHERE u.tenant = %s AND u.type = %s AND u.path = %s AND u.folded = %s)"
)
BY_LOOKUP = (
    "r.id IN (SELECT l.id FROM lookup_values l"
    " WHERE l.tenant = %s AND l.type = %s AND l.path = %s AND l.folded = %s)"
)
BY_EXTERNAL_ID = "r.external_id = %s"
BY_DISPLAY_NAME = "r.display_name = %s"

LOOKUPS = frozenset({"emails.value"})


@dataclasses.dataclass(frozen=True, slots=True)
class Predicate:
    """A condition on `resources r`, and its parameters in order."""

    text: str
    values: tuple[Any, ...]


def compile_filter(
    tenant: ids.TenantId, resource_type: schemas.ResourceType, wanted: filters.Filter
) -> Predicate:
    """Compile a filter.

    Raises:
        InvalidFilter: naming what this version does not look up by.
    """
    match wanted:
        case filters.And(left, right):
            one = compile_filter(tenant, resource_type, left)
            other = compile_filter(tenant, resource_type, right)
            return Predicate(f"({one.text} AND {other.text})", one.values + other.values)
        case filters.Comparison(attribute, "eq", value) if isinstance(value, str):
            return _equals(tenant, resource_type, attribute, value)
        case filters.Comparison(attribute, operator, _):
            raise errors.InvalidFilter(
                f"{attribute.path}: {operator} with this value is not supported; use eq and a string."
            )
        case _:
            raise errors.InvalidFilter("The filter is not supported: combine comparisons by eq with and.")


def _equals(
    tenant: ids.TenantId,
    resource_type: schemas.ResourceType,
    reference: filters.AttributeReference,
    value: str,
) -> Predicate:
    attribute = reference.sub_attribute or reference.attribute
    if reference.path == "id":
        # An id that can't be one of ours matches nothing; the all-zero UUID is never given away.
        wanted = snapshots.resource_id(value)
        return Predicate(BY_ID, (wanted or snapshots.NO_RESOURCE,))
    if reference.path == "externalId":
        return Predicate(BY_EXTERNAL_ID, (value,))
    if reference.path == "displayName":
        return Predicate(BY_DISPLAY_NAME, (documents.fold(attribute, value),))
    if attribute.uniqueness in ("server", "global"):
        key = (tenant, resource_type.name, reference.path, documents.fold(attribute, value))
        return Predicate(BY_UNIQUE, key)
    if reference.path in LOOKUPS:
        key = (tenant, resource_type.name, reference.path, documents.fold(attribute, value))
        return Predicate(BY_LOOKUP, key)
    raise errors.InvalidFilter(f"{reference.path}: resources can't be looked up by this attribute.")
