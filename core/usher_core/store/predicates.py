"""Filters as SQL: each becomes one parameterised expression over `resources r`.

No row is ever filtered in Python. The oracle is `scim.evaluations`: a property test holds both against each
other. What can't be compiled is refused: a look-up that silently matched nothing would make the client create
a duplicate.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from psycopg.types.json import Jsonb

from usher_core import errors, ids
from usher_core.changes import snapshots
from usher_core.scim import documents, filters, schemas
from usher_core.store import lookups, places
from usher_core.store.expressions import Expression, conjunction, disjunction, negation

_Test = Callable[[places.Place], Expression]

_SIGNS: Final = {"eq": "=", "ne": "<>", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
NOTHING: Final = Expression("false")


def over(tenant: ids.TenantId, wanted: Mapping[schemas.ResourceType, filters.Filter | None]) -> Expression:
    """Compile what to select of each resource type: `None` selects all of it, no other types are selected.

    Raises:
        InvalidFilter: a filter compares what can't be compared in the store.
    """
    if not wanted:
        return NOTHING
    if not any(wanted.values()):
        return _of_types(list(wanted))
    return disjunction(
        *(
            conjunction(_of_types([resource_type]), compile_filter(tenant, resource_type, condition))
            if condition is not None
            else _of_types([resource_type])
            for resource_type, condition in wanted.items()
        )
    )


def _of_types(resource_types: list[schemas.ResourceType]) -> Expression:
    if len(resource_types) == 1:
        return Expression("r.type = %s", (resource_types[0].name,))
    return Expression("r.type = ANY(%s)", ([one.name for one in resource_types],))


def compile_filter(
    tenant: ids.TenantId, resource_type: schemas.ResourceType, wanted: filters.Filter
) -> Expression:
    """Compile a filter on resources of one type.

    Raises:
        InvalidFilter: it compares what can't be compared in the store.
    """
    return _Compiler(tenant, resource_type).compile(wanted, None)


def compile_inside(
    tenant: ids.TenantId, resource_type: schemas.ResourceType, wanted: filters.Filter, place: places.Place
) -> Expression:
    """Compile what stands between the brackets of a value path, on one element.

    Raises:
        InvalidFilter: it compares what can't be compared in the store.
    """
    return _Compiler(tenant, resource_type).compile(wanted, place)


def required_id(wanted: filters.Filter) -> ids.ResourceId | None:
    """Find the one `value` with which what stands between the brackets may hold, if it says so."""
    for condition in _conjuncts(wanted):
        is_value = condition.attribute.target.name == "value" and condition.operator == "eq"
        if is_value and condition.value is not None:
            return lookups.related_id(condition) or snapshots.NO_RESOURCE
    return None


@dataclasses.dataclass(frozen=True, slots=True)
class _Compiler:
    tenant: ids.TenantId
    resource_type: schemas.ResourceType

    def compile(self, wanted: filters.Filter, element: places.Place | None) -> Expression:
        """Compile a condition on a resource, or on one element of a value path."""
        match wanted:
            case filters.And(left, right):
                return conjunction(self.compile(left, element), self.compile(right, element))
            case filters.Or(left, right):
                return disjunction(self.compile(left, element), self.compile(right, element))
            case filters.Not(inner):
                return negation(self.compile(inner, element))
            case filters.ValuePath(reference, inner):
                return self._value_path(reference, inner)
            case filters.Presence(reference):
                return self._some(reference, element, _is_filled)
            case filters.Comparison():
                known = lookups.find(self.tenant, self.resource_type, wanted) if element is None else None
                return known or self._compare(wanted, element)

    def _value_path(self, reference: filters.AttributeReference, inner: filters.Filter) -> Expression:
        # What all of its conditions must hold anyway can be looked up first.
        known: list[Expression] = []
        only: ids.ResourceId | None = None
        for condition in _conjuncts(inner):
            found = lookups.find(self.tenant, self.resource_type, condition)
            if found is not None:
                known.append(found)
                if condition.attribute.target.name == "value":
                    only = lookups.related_id(condition) or snapshots.NO_RESOURCE
        values = places.of_attribute(self.resource_type, reference, only)
        return conjunction(
            *known,
            _any(values, lambda place: conjunction(_is_assigned(place), self.compile(inner, place))),
        )

    def _compare(self, wanted: filters.Comparison, element: places.Place | None) -> Expression:
        some = functools.partial(self._some, wanted.attribute, element)
        if wanted.value is None:
            return some(_is_assigned) if wanted.operator == "ne" else negation(some(_is_assigned))
        test = functools.partial(_related, wanted)
        if wanted.operator == "ne":
            return disjunction(negation(some(_is_assigned)), some(test))
        return some(test)

    def _some(
        self, reference: filters.AttributeReference, element: places.Place | None, test: _Test
    ) -> Expression:
        """Say that some value of an attribute passes a test."""
        if places.is_computed(self.resource_type, reference):
            raise errors.InvalidFilter(
                f"{reference.path} is made by the service for each answer: it can't be used in a filter."
            )
        sub = reference.sub_attribute

        def on_value(place: places.Place) -> Expression:
            return test(place) if sub is None else _any(places.of_sub_attribute(place, sub), test)

        if element is not None:
            return on_value(element)
        return _any(places.of_attribute(self.resource_type, reference), on_value)


def _conjuncts(wanted: filters.Filter) -> Iterator[filters.Comparison]:
    """List the comparisons without which the filter can't hold."""
    if isinstance(wanted, filters.And):
        yield from _conjuncts(wanted.left)
        yield from _conjuncts(wanted.right)
    elif isinstance(wanted, filters.Comparison):
        yield wanted


def _any(values: places.Place | places.Elements, test: _Test) -> Expression:
    if isinstance(values, places.Place):
        return test(values)
    condition = test(values.place)
    # OFFSET keeps it a question of each row: as a join, stale statistics were seen to make it quadratic.
    return Expression(
        f"EXISTS (SELECT FROM {values.source.text} WHERE {condition.text} OFFSET 0)",
        (*values.source.values, *condition.values),
    )


def _is_assigned(place: places.Place) -> Expression:
    value = place.as_text(case_exact=True)
    return Expression(f"{value.text} IS NOT NULL", value.values)


def _is_filled(place: places.Place) -> Expression:
    value = place.as_json()
    return Expression(f"""{value.text} NOT IN ('""', '{{}}', 'null')""", value.values)


def _related(wanted: filters.Comparison, place: places.Place) -> Expression:
    """One value stands in the relation to the value compared with."""
    target = wanted.attribute.target
    match target.type:
        case "boolean" | "integer" | "decimal":
            held, mark, value = place.as_json(), "%s", Jsonb(wanted.value)
            return Expression(f"{held.text} {_SIGNS[wanted.operator]} {mark}", (*held.values, value))
        case "dateTime":
            held = place.as_moment()
            # The same function reads both, so that both are cut off and shifted alike.
            text = f"{held.text} {_SIGNS[wanted.operator]} usher_moment(%s)"
            return Expression(text, (*held.values, wanted.value))
        case _:
            folded = documents.fold(target, str(wanted.value))
            return _textual(wanted.operator, place.as_text(case_exact=target.case_exact), folded)


def _textual(operator: filters.Operator, held: Expression, value: str) -> Expression:
    # No patterns: `%` and `_` mean themselves.
    match operator:
        case "co":
            return Expression(f"strpos({held.text}, %s) > 0", (*held.values, value))
        case "sw":
            return Expression(f"starts_with({held.text}, %s)", (*held.values, value))
        case "ew":
            text = f"right({held.text}, length(%s::text)) = %s"
            return Expression(text, (*held.values, value, value))
        case _:
            return Expression(f"{held.text} {_SIGNS[operator]} %s", (*held.values, value))
