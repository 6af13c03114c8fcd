"""Pieces of SQL with their parameters: every value of a client travels as a parameter.

`places`, `lookups`, `predicates` and `orders` build them, `resources` runs them. A condition holds when it is
true; false and NULL are the same, so only `negation` has to know the difference.
"""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, slots=True)
class Expression:
    """A piece of SQL, and its parameters in order."""

    text: str
    values: tuple[Any, ...] = ()


def conjunction(*conditions: Expression) -> Expression:
    """Join conditions that must all hold."""
    return _joined(" AND ", conditions)


def disjunction(*conditions: Expression) -> Expression:
    """Join conditions of which one must hold."""
    return _joined(" OR ", conditions)


def negation(condition: Expression) -> Expression:
    """Turn a condition round: it must not hold."""
    return Expression(f"({condition.text}) IS NOT TRUE", condition.values)


def _joined(operator: str, conditions: tuple[Expression, ...]) -> Expression:
    if len(conditions) == 1:
        return conditions[0]
    text = operator.join(condition.text for condition in conditions)
    return Expression(f"({text})", tuple(value for condition in conditions for value in condition.values))
