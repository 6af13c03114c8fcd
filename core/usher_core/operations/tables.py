"""Tables as commands print them: aligned columns, nothing cut off, fit for eyes and for `awk`."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence


def render(head: Sequence[str], rows: Iterable[Sequence[object]], *, right: Iterable[int] = ()) -> str:
    """Align the columns of a table; those whose numbers are in `right` end at the same place."""
    lines = [tuple(head), *(cells(row) for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*lines, strict=True)]
    ending = frozenset(right)
    return "\n".join(
        "  ".join(
            _padded(cell, width, right=number in ending)
            for number, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def cells(row: Iterable[object]) -> tuple[str, ...]:
    """Make texts of values, each fit to stand in one line: what moves the cursor stays out."""
    return tuple(_cell(value) for value in row)


def _cell(value: object) -> str:
    text = "-" if value is None or value == "" else str(value)
    return "".join(character if character.isprintable() else "?" for character in text)


def _padded(cell: str, width: int, *, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(cell: str) -> int:
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in cell
    )
