"""Comparisons by `eq` that an index answers; `predicates` asks here first.

Each becomes a condition on the resource's id, whose right side PostgreSQL evaluates once, from an index that
leads with the tenant: it stays an index look-up when it is combined with other conditions, and the planner
has no choice that statistics could mislead.
"""

from __future__ import annotations

from typing import Final

from usher_core import ids
from usher_core.changes import snapshots
from usher_core.scim import documents, filters, schemas
from usher_core.store import nestings, places
from usher_core.store.expressions import Expression

BY_ID = "r.id = %s"
BY_UNIQUE = (
    "r.id = (SELECT u.id FROM unique_values u"
    " WHERE u.tenant = %s AND u.type = %s AND u.path = %s AND u.folded = %s)"
)
BY_LOOKUP = (
    "r.id = ANY(ARRAY(SELECT l.id FROM lookup_values l"
    " WHERE l.tenant = %s AND l.type = %s AND l.path = %s AND l.folded = %s))"
)
BY_EXTERNAL_ID = (
    "r.id = ANY(ARRAY(SELECT x.id FROM resources x"
    " WHERE x.tenant = %s AND x.type = %s AND x.external_id = %s))"
)
BY_DISPLAY_NAME = (
    "r.id = ANY(ARRAY(SELECT x.id FROM resources x"
    " WHERE x.tenant = %s AND x.type = %s AND x.display_name = %s))"
)
BY_MEMBER = (
    "r.id = ANY(ARRAY(SELECT m.group_id FROM effective_members m WHERE m.tenant = %s AND m.member_id = %s))"
)
BY_GROUP = f"r.id = ANY(ARRAY({nestings.BELONGING}))"

# What of these types is equal is equal as text.
_INDEXED: Final = documents.TEXTS | {"integer"}


def find(
    tenant: ids.TenantId, resource_type: schemas.ResourceType, condition: filters.Comparison
) -> Expression | None:
    """Compile a comparison as an index look-up; `None` where no index knows the answer."""
    reference, value = condition.attribute, condition.value
    target = reference.target
    if condition.operator != "eq" or not isinstance(value, str | int) or target.type not in _INDEXED:
        return None
    folded = documents.fold(target, value)
    if reference.path == "id":
        return Expression(BY_ID, (related_id(condition) or snapshots.NO_RESOURCE,))
    key = (tenant, resource_type.name)
    if reference.path == "externalId":
        return Expression(BY_EXTERNAL_ID, (*key, value)) if value else None
    # What is empty is kept in no index.
    if target.uniqueness in ("server", "global") and folded:
        return Expression(BY_UNIQUE, (*key, documents.unique_space(reference), folded))
    if resource_type.attribute(reference.attribute.name) is reference.attribute:
        if _is_value(reference) and reference.attribute.name in resource_type.stored_apart:
            return Expression(BY_MEMBER, (tenant, related_id(condition) or snapshots.NO_RESOURCE))
        if _is_value(reference) and places.is_groups(resource_type, reference):
            group = related_id(condition) or snapshots.NO_RESOURCE
            return Expression(BY_GROUP, (group, tenant, tenant))
    # These are kept folded, whatever the schema says.
    if documents.looked_up(resource_type).get(reference.path) != reference or target.case_exact:
        return None
    if reference.path == "displayName":
        return Expression(BY_DISPLAY_NAME, (*key, folded))
    return Expression(BY_LOOKUP, (*key, reference.path, folded)) if folded else None


def related_id(condition: filters.Comparison) -> ids.ResourceId | None:
    """Read the id that is compared with; `None` for what is no id as we write them, which nothing equals."""
    text = documents.fold(condition.attribute.target, str(condition.value))
    found = snapshots.resource_id(text)
    return found if str(found) == text else None


def _is_value(reference: filters.AttributeReference) -> bool:
    return reference.sub_attribute is not None and reference.sub_attribute.name == "value"
