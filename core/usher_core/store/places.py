"""Where the values of attributes lie in PostgreSQL: one place, or the rows of a FROM clause.

`predicates` and `orders` ask here and nowhere else, over `resources r`. A place is JSON, twice: as it is
stored, and folded for the comparisons where case does not count. What lies in rows or columns of its own
(ids, meta, members, groups) is presented in the same form, as the api shows it.
"""

from __future__ import annotations

import dataclasses
import json
import uuid
from typing import Final

from usher_core import ids
from usher_core.scim import filters, schemas
from usher_core.store import nestings
from usher_core.store.expressions import Expression


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """Where one value lies: two JSON expressions without parameters, and the path to it in either.

    `moment` is an expression for the same value as a timestamp in UTC, if there is a cheaper one.
    """

    exact: str
    folded: str
    path: tuple[str, ...] = ()
    moment: str | None = None

    def inside(self, name: str) -> Place:
        """Go on to a member of the value."""
        return Place(self.exact, self.folded, (*self.path, name))

    def as_json(self) -> Expression:
        """Read the value as JSON."""
        return Expression(f"({self.exact} #> %s::text[])", (list(self.path),))

    def as_text(self, *, case_exact: bool) -> Expression:
        """Read the value as text that compares by code points, folded unless the case counts."""
        if case_exact:
            return Expression(f'(({self.exact} #>> %s::text[]) COLLATE "C")', (list(self.path),))
        # ASCII that was not folded beforehand is folded here.
        return Expression(f'lower(({self.folded} #>> %s::text[]) COLLATE "C")', (list(self.path),))

    def as_moment(self) -> Expression:
        """Read the value as a timestamp in UTC."""
        if self.moment is not None:
            return Expression(self.moment)
        return Expression(f"usher_moment({self.exact} #>> %s::text[])", (list(self.path),))


@dataclasses.dataclass(frozen=True, slots=True)
class Elements:
    """The values of a multi-valued attribute: rows of `source`, each with its `position`, each at `place`.

    `ranked`: one of them may be the primary one.
    """

    source: Expression
    place: Place
    position: str
    ranked: bool


DOCUMENT: Final = Place("r.document", "coalesce(r.folded, r.document)")
ID: Final = Place("to_jsonb(r.id)", "to_jsonb(r.id)")
_META: Final = (
    "jsonb_build_object('resourceType', r.type, 'created', r.created_at, 'lastModified', r.modified_at,"
    """ 'version', 'W/"' || r.version::text || '"')"""
)
META: Final = Place(_META, _META)
# Clients see milliseconds, so that is what they compare with.
_MOMENTS: Final = {
    "created": "date_trunc('milliseconds', r.created_at AT TIME ZONE 'UTC')",
    "lastModified": "date_trunc('milliseconds', r.modified_at AT TIME ZONE 'UTC')",
}

_MEMBER_VALUES: Final = """
    SELECT jsonb_build_object('value', m.member_id, 'type', m.member_type, 'display', m.display) AS exact,
           jsonb_build_object('value', m.member_id, 'type', m.member_type,
                              'display', coalesce(m.folded, m.display)) AS folded,
           m.member_id AS position
      FROM """
MEMBERS: Final = f"{_MEMBER_VALUES} effective_members m WHERE m.tenant = r.tenant AND m.group_id = r.id"
# Those of one group as the store holds them; the parameters are the tenant and the group.
HELD_MEMBERS: Final = f"{_MEMBER_VALUES} members m WHERE m.tenant = %s AND m.group_id = %s"
_GROUP_VALUES: Final = """
    SELECT jsonb_build_object('value', b.id, 'type', b.type, 'display', g.document -> 'displayName') AS exact,
           jsonb_build_object('value', b.id, 'type', b.type,
                              'display', coalesce(g.folded, g.document) -> 'displayName') AS folded,
           ROW(b.type, b.id) AS position
      FROM ({groups}) AS b (id, type)
     CROSS JOIN LATERAL (
           SELECT g.document, g.folded FROM resources g
            WHERE g.tenant = r.tenant AND g.type = 'Group' AND g.id = b.id
           OFFSET 0) g"""
# In the order in which the api shows them: those that the user is in itself come first.
GROUPS: Final = _GROUP_VALUES.format(
    groups=f"""
           SELECT d.group_id, 'direct' FROM ({nestings.DIRECT}) AS d
            UNION ALL
           SELECT i.id, 'indirect' FROM {nestings.INDIRECT} AS i WHERE {nestings.ARE_THERE}"""  # noqa: S608 - built of constants
)
# One group, which must be known to hold the user: then only how it does is asked.
KNOWN_GROUP: Final = _GROUP_VALUES.format(
    groups=f"""
           SELECT k.id, CASE WHEN EXISTS ({nestings.DIRECT} AND m.group_id = k.id)
                             THEN 'direct' ELSE 'indirect' END
             FROM (SELECT %s::uuid) AS k (id)"""  # noqa: S608 - built of constants
)


def is_computed(resource_type: schemas.ResourceType, reference: filters.AttributeReference) -> bool:
    """Whether the value is made of a request's own address, so that nothing can be compared with it."""
    attribute = reference.attribute
    if reference.urn is not None or resource_type.attribute(attribute.name) is not attribute:
        return False
    related = resource_type.stored_apart | resource_type.computed
    return reference.path in ("meta.location", *(f"{name}.$ref" for name in related))


def of_attribute(
    resource_type: schemas.ResourceType,
    reference: filters.AttributeReference,
    only: ids.ResourceId | None = None,
) -> Place | Elements:
    """Find where an attribute as a whole lies, be the reference to it or to one of its sub-attributes.

    Of members, `only` leaves the one with this id; of groups too, and it must be known to hold the resource.
    """
    attribute = reference.attribute
    # What is apart from the document is of the core, whatever an extension calls its attributes.
    if reference.urn is None and resource_type.attribute(attribute.name) is attribute:
        if attribute.name == "id":
            return ID
        if attribute.name == "meta":
            return META
        if attribute.name in resource_type.stored_apart:
            return _members(Expression(MEMBERS), only)
        if is_groups(resource_type, reference):
            return _rows(Expression(GROUPS) if only is None else Expression(KNOWN_GROUP, (only,)))
    holder = DOCUMENT if reference.urn is None else DOCUMENT.inside(reference.urn)
    return _within(holder, attribute, "e")


def of_held_members(
    tenant: ids.TenantId, group: ids.ResourceId, only: ids.ResourceId | None = None
) -> Elements:
    """Find the members of one group as the store holds them, for who changes them; `only` as above.

    The position of each is its id.
    """
    return _members(Expression(HELD_MEMBERS, (tenant, group)), only)


def of_sub_attribute(place: Place, attribute: schemas.Attribute) -> Place | Elements:
    """Find where a sub-attribute lies, given the place of the value that has it."""
    if place is META and attribute.name in _MOMENTS:
        return dataclasses.replace(place.inside(attribute.name), moment=_MOMENTS[attribute.name])
    return _within(place, attribute, "v")


def is_groups(resource_type: schemas.ResourceType, reference: filters.AttributeReference) -> bool:
    """Whether the attribute is the computed `groups` of a user (RFC 7643 §4.1.2)."""
    attribute = reference.attribute
    return attribute.name in resource_type.computed and resource_type.attribute("groups") is attribute


def _within(place: Place, attribute: schemas.Attribute, alias: str) -> Place | Elements:
    if not attribute.multi_valued:
        return place.inside(attribute.name)
    path = "".join(f".{json.dumps(name)}" for name in (*place.path, attribute.name))
    # Lax paths never fail: what is no array counts as one value, what is missing as none.
    source = Expression(
        f"ROWS FROM (jsonb_path_query({place.exact}, %s::jsonpath), jsonb_path_query({place.folded},"
        f" %s::jsonpath)) WITH ORDINALITY AS {alias} (exact, folded, position)",
        (f"${path}[*]", f"${path}[*]"),
    )
    ranked = attribute.sub_attribute("primary") is not None
    return Elements(source, Place(f"{alias}.exact", f"{alias}.folded"), f"{alias}.position", ranked)


def _members(rows: Expression, only: uuid.UUID | None) -> Elements:
    if only is None:
        return _rows(rows)
    return _rows(Expression(f"{rows.text} AND m.member_id = %s", (*rows.values, only)))


def _rows(rows: Expression) -> Elements:
    source = Expression(f"({rows.text}) AS e", rows.values)
    return Elements(source, Place("e.exact", "e.folded"), "e.position", ranked=False)
