"""Where the figures go: into `build/bench.json` under their names, and onto the terminal as a table.

Every script beside this one comes here. A row has its figure, the goal, and whether it is met; what else it
holds explains the figure.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def arguments(about: str | None) -> argparse.ArgumentParser:
    """Make a parser that knows where the figures go."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("build/bench.json"))
    return parser


def at_most(figure: float, goal: float, **more: Any) -> Row:
    """Judge a figure that may not be above its goal."""
    return {"figure": round(figure, 4), "goal": goal, "met": figure <= goal, **more}


def at_least(figure: float, goal: float, **more: Any) -> Row:
    """Judge a figure that may not be below its goal."""
    return {"figure": round(figure, 4), "goal": goal, "met": figure >= goal, **more}


def percentile(values: list[float], part: float) -> float:
    """Pick the value that `part` of them are not above."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def show(title: str, found: Mapping[str, Row]) -> None:
    """Print figures that were judged."""
    table = Table(title=title)
    for column in ("what", "figure", "goal", "met", "more"):
        table.add_column(column, justify="right" if column in ("figure", "goal") else "left")
    for name, row in found.items():
        rest = {key: value for key, value in row.items() if key not in ("figure", "goal", "met")}
        more = ", ".join(f"{key} {value}" for key, value in rest.items())
        table.add_row(name, f"{row['figure']:g}", f"{row['goal']:g}", "yes" if row["met"] else "NO", more)
    Console(width=130).print(table)


def write(found: Mapping[str, Any], out: Path) -> None:
    """Put figures into the file, in the place of earlier ones of the same names."""
    out.parent.mkdir(parents=True, exist_ok=True)
    before = json.loads(out.read_text()) if out.exists() else {}
    out.write_text(json.dumps(before | dict(found), indent=2) + "\n")
    print(f"written to {out}")
