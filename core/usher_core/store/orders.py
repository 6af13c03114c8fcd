"""The order of a page, as SQL: by the value of an attribute (RFC 7644 §3.4.2.3), and always by id in the end.

An order is total, so that a page can begin right after any place of the one before: `after` compares whole
rows. What has no value comes last, first when descending, as if it were the highest. Whoever reads page after
page sees each resource once that keeps its value meanwhile; what gets another one moves, and may be seen
twice or not at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

from usher_core import errors, ids
from usher_core.scim import filters, schemas
from usher_core.store import places
from usher_core.store.expressions import Expression

# What stands in for a missing value in a comparison of rows, where NULL would decide nothing.
_FILLERS: Final = {"text": "''", "jsonb": "'null'::jsonb", "timestamp": "'-infinity'::timestamp"}


@dataclasses.dataclass(frozen=True, slots=True)
class Position:
    """The place of one resource in an order; `key` is PostgreSQL's text of the value sorted by."""

    type: str
    id: ids.ResourceId
    key: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Order:
    """An order of resources; `key` is the value sorted by, of SQL type `key_type`, if there is one.

    `single_type`: the resources are of one type, so that their ids alone tell them apart.
    """

    single_type: bool = True
    key: Expression | None = None
    key_type: str = "text"
    descending: bool = False

    @property
    def source(self) -> Expression:
        """What to select from: `effective_resources r`, and `k.key` where there is a key."""
        if self.key is None:
            return Expression("effective_resources r")
        text = f"effective_resources r CROSS JOIN LATERAL (SELECT {self.key.text} AS key) k"
        return Expression(text, self.key.values)

    @property
    def shown_key(self) -> str:
        """The key as a column to select, to make a `Position` of."""
        return "NULL" if self.key is None else "k.key::text"

    def by(self, *, backward: bool = False) -> str:
        """Write the ORDER BY; `backward` turns the whole order round."""
        direction = " DESC" if self.descending != backward else ""
        return ", ".join(f"{column}{direction}" for column in self._columns)

    def after(self, position: Position, *, backward: bool = False) -> Expression:
        """Select what comes after a position, or before it."""
        marks: list[str] = ["%s"]
        values: list[Any] = [position.id]
        if not self.single_type:
            marks, values = ["%s", *marks], [position.type, *values]
        if self.key is not None:
            marks = ["%s", f"coalesce(%s::{self.key_type}, {_FILLERS[self.key_type]})", *marks]
            values = [position.key is None, position.key, *values]
        sign = "<" if self.descending != backward else ">"
        return Expression(f"({', '.join(self._columns)}) {sign} ({', '.join(marks)})", tuple(values))

    @property
    def _columns(self) -> list[str]:
        columns = ["r.id"] if self.single_type else ["r.type", "r.id"]
        if self.key is None:
            return columns
        return ["(k.key IS NULL)", f"coalesce(k.key, {_FILLERS[self.key_type]})", *columns]


BY_ID: Final = Order()
BY_TYPE_AND_ID: Final = Order(single_type=False)


def by_attribute(
    references: Mapping[schemas.ResourceType, filters.AttributeReference | None], *, descending: bool
) -> Order:
    """Order by an attribute, given what its name stands for in each of the resource types; `None`: nothing.

    Raises:
        InvalidValue: nothing can be ordered by it.
    """
    single_type = len(references) == 1
    keys = [(kind.name, *_key(kind, found)) for kind, found in references.items() if found is not None]
    if not keys:
        return Order(single_type=single_type, descending=descending)
    [(_, key, key_type), *_] = keys
    if not single_type:
        # Resources of the types that are left out have no value.
        whens = " ".join(f"WHEN %s THEN {one.text}" for _, one, _ in keys)
        values: tuple[Any, ...] = tuple(v for name, one, _ in keys for v in (name, *one.values))
        key = Expression(f"CASE r.type {whens} END", values)
    return Order(single_type=single_type, key=key, key_type=key_type, descending=descending)


def _key(
    resource_type: schemas.ResourceType, reference: filters.AttributeReference
) -> tuple[Expression, str]:
    target = reference.target
    if places.is_computed(resource_type, reference):
        raise errors.InvalidValue(
            f"sortBy: {reference.path} is made for each answer, nothing is sorted by it."
        )
    read, key_type = _reader(target)
    sub = reference.sub_attribute

    def of_value(place: places.Place) -> Expression:
        return read(place) if sub is None else _first(places.of_sub_attribute(place, sub), read)

    return _first(places.of_attribute(resource_type, reference), of_value), key_type


def _reader(target: schemas.Attribute) -> tuple[Callable[[places.Place], Expression], str]:
    match target.type:
        case "boolean" | "integer" | "decimal":
            return places.Place.as_json, "jsonb"
        case "dateTime":
            return places.Place.as_moment, "timestamp"
        case _:
            return lambda place: place.as_text(case_exact=target.case_exact), "text"


def _first(values: places.Place | places.Elements, read: Callable[[places.Place], Expression]) -> Expression:
    """Read the one value, the primary one, or else the first one (RFC 7644 §3.4.2.3)."""
    if isinstance(values, places.Place):
        return read(values)
    value = read(values.place)
    primary = f"({values.place.exact} -> 'primary' = 'true') IS TRUE DESC, " if values.ranked else ""
    return Expression(
        f"(SELECT {value.text} FROM {values.source.text}"  # noqa: S608 - built of constants of `places`
        f" ORDER BY {primary}{values.position} LIMIT 1)",
        (*value.values, *values.source.values),
    )
