"""Write docs/reference/scimtenant.md out of the CustomResourceDefinition.

`make docs` runs it after a change of the CRD; a test fails until it was. Invariant: every field has one row,
in the order of the CRD, and every rule stands with its message.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CRD = ROOT / "charts" / "usher" / "files" / "scimtenants.yaml"
PAGE = ROOT / "docs" / "reference" / "scimtenant.md"

Schema = dict[str, Any]

OPENING = """\
<!-- Written by `make docs` out of charts/usher/files/scimtenants.yaml: change that, not this. -->
# ScimTenant

{description}

`{kind}` is a namespaced resource of `{group}/{version}`, short name `{short}`. `kubectl explain` says the
same as this page, and [operator.md](../operator.md) shows it at work. A field of another name, or a value
that breaks a rule, is refused by the API server and by `usher dev` alike.
"""

FIELDS = "| Field | Type | Default | What it is |\n|---|---|---|---|\n"

RULES = """\
## Rules

What a field's own bounds can't say. The API server refuses what breaks one, with these words.

| Where | Message |
|---|---|
"""

COLUMNS = """\
## Columns

What `kubectl get scimtenants` shows, and with `-o wide` what is marked so.

| Column | What it is | Out of |
|---|---|---|
"""


def page(crd: Schema) -> str:
    """Make the page."""
    spec = crd["spec"]
    (version,) = spec["versions"]
    root = version["schema"]["openAPIV3Schema"]
    opening = OPENING.format(
        description=root["description"],
        kind=spec["names"]["kind"],
        group=spec["group"],
        version=version["name"],
        short=spec["names"]["shortNames"][0],
    )
    parts = [opening]
    for name in ("spec", "status"):
        below = root["properties"][name]
        rows = "".join(_row(*field) for field in _fields(below, ""))
        parts.append(f"## {name}\n\n{below['description']}\n\n{FIELDS}{rows}")
    rules = "".join(f"| `{path}` | {_cell(message)} |\n" for path, message in _rules(root, ""))
    columns = "".join(_column(column) for column in version["additionalPrinterColumns"])
    return "\n".join([*parts, RULES + rules, COLUMNS + columns])


def _fields(schema: Schema, path: str) -> Iterator[tuple[str, Schema, bool]]:
    required = schema.get("required", [])
    for name, below in schema.get("properties", {}).items():
        here = f"{path}.{name}".lstrip(".")
        yield here, below, name in required
        yield from _fields(below.get("items", below), f"{here}[]" if "items" in below else here)


def _row(path: str, schema: Schema, required: bool) -> str:
    default = schema.get("default")
    told = "**required**" if required else "" if default in (None, {}) else f"`{_text(default)}`"
    return f"| `{path}` | {_type(schema)} | {told} | {_cell(schema['description'])} |\n"


def _type(schema: Schema) -> str:
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    match schema["type"]:
        case "array":
            bounds = f", {schema.get('minItems', 0)} to {schema['maxItems']}"
            return f"list of {schema['items']['type']}s{bounds}"
        case "integer" if "maximum" in schema:
            return f"integer, {schema['minimum']} to {schema['maximum']}"
        case "string" if schema.get("format") == "date-time":
            return "moment"
        case "string" if schema.get("maxLength"):
            return f"string, at most {schema['maxLength']}"
        case kind:
            return str(kind)


def _rules(schema: Schema, path: str) -> Iterator[tuple[str, str]]:
    for rule in schema.get("x-kubernetes-validations", []):
        yield path.lstrip(".") or "metadata", rule["message"]
    for name, below in schema.get("properties", {}).items():
        yield from _rules(below, f"{path}.{name}")
    if "items" in schema:
        yield from _rules(schema["items"], f"{path}[]")


def _column(column: Schema) -> str:
    wide = " (`-o wide`)" if column.get("priority") else ""
    return f"| {column['name']}{wide} | {_cell(column['description'])} | `{_cell(column['jsonPath'])}` |\n"


def _text(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else yaml.safe_dump(value).split("\n")[0].strip("'")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(yaml.safe_load(CRD.read_text())))
