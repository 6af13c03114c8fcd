"""Write the table of values in the chart's README out of the comments of values.yaml.

Run by hand after a change of values.yaml (`python tests/tools/chart_values.py`); a test fails until it was.
Invariant: every value that a user can set has one row, in the order of the file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "charts" / "usher"
BEGIN, END = "<!-- values -->\n", "<!-- /values -->\n"


def documented(text: str) -> dict[str, str]:
    """Read the comment `# -- …` of each value, by the value's dotted path."""
    found: dict[str, str] = {}
    above: list[tuple[int, str]] = []
    comment = ""
    for line in text.splitlines():
        if opened := re.fullmatch(r"\s*# -- (.+)", line):
            comment = opened[1]
        elif key := re.match(r"( *)(\w+):", line):
            depth = len(key[1])
            above = [(at, name) for at, name in above if at < depth] + [(depth, key[2])]
            if comment:
                found[".".join(name for _, name in above)] = comment
            comment = ""
    return found


def at(values: dict[str, Any], path: str) -> Any:
    """Return the value at a dotted path."""
    for name in path.split("."):
        values = values[name]
    return values


def table(text: str) -> str:
    """Make the table of the values that `text`, a values.yaml, documents."""
    values = yaml.safe_load(text)
    rows = ["| Value | Default | What it is |", "|---|---|---|"]
    for path, comment in documented(text).items():
        default = json.dumps(at(values, path), ensure_ascii=False)
        rows.append(f"| `{path}` | `{default}` | {comment.replace('|', chr(92) + '|')} |")
    return "\n".join(rows) + "\n"


def with_table(readme: str, text: str) -> str:
    """Return the README with its table made anew."""
    before, rest = readme.split(BEGIN)
    return before + BEGIN + table(text) + END + rest.split(END)[1]


if __name__ == "__main__":
    readme = CHART / "README.md"
    readme.write_text(with_table(readme.read_text(), (CHART / "values.yaml").read_text()))
