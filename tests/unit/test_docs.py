"""The documentation names only code, tests and files that are there."""

from __future__ import annotations

import importlib
import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from usher_core import settings

ROOT = Path(__file__).parents[2]
PROTOCOL = ROOT / "docs" / "protocol.md"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TOP = "api|charts|core|docs|examples|operator|requirements|tests|worker"

# Packages whose modules have namesakes in others: these are told apart by them.
SHORT = ("changes", "scim", "store")
# A column of code has one of these for a head.
HEADS = ("Where", "Set by")


@cache
def files_of_tests() -> dict[str, str]:
    """Read the files of tests, by their names."""
    return {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}


def quoted(text: str) -> list[str]:
    return re.findall(r"`([^`\n]+)`", text)


def columns_of_code(page: str) -> Iterator[str]:
    column = 0
    for line in page.splitlines():
        cells = line.strip("|").split("|") if line.startswith("|") else []
        heads = [number for number, cell in enumerate(cells) if cell.strip() in HEADS]
        column = heads[0] if heads else column
        if cells and not heads:
            yield cells[column]


def packages(page: str) -> dict[str, str]:
    """Read in which packages the modules lie that are named without one; all others are of the engine."""
    listed = page.partition("Modules are named without their package:")[2].partition("all others in")[0]
    found = {}
    for part in listed.split(";"):
        *modules, folder = quoted(part) or [""]
        found |= dict.fromkeys(modules, folder)
    return {module: folder.partition("/")[2].replace("/", ".") for module, folder in found.items()}


def named(name: str, folders: dict[str, str]) -> Any:
    """Find what a page calls so; the name may begin with its package, or with the last part of that."""
    first, *rest = name.split(".")
    if first.startswith("usher_"):
        found: Any = importlib.import_module(first)
    elif first in SHORT:
        found = importlib.import_module(f"usher_core.{first}")
    else:
        found = importlib.import_module(f"{folders.get(first, 'usher_core.scim')}.{first}")
    for part in rest:
        is_module = not hasattr(found, part) and hasattr(found, "__path__")
        found = importlib.import_module(f"{found.__name__}.{part}") if is_module else getattr(found, part)
    return found


def is_there(name: str, folders: dict[str, str]) -> bool:
    if name.startswith("USHER_"):
        return name.removeprefix("USHER_").lower() in settings.Settings.model_fields
    try:
        named(name, folders)
    except (ImportError, AttributeError):
        return False
    return True


def test_the_file_names_of_tests_are_unique() -> None:
    counted = Counter(path.name for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, times in counted.items() if times > 1] == []


def test_protocol_names_only_code_that_is_there() -> None:
    page = PROTOCOL.read_text()
    folders = packages(page)
    assert folders["reads"] == "usher_api"
    names = [name for cell in columns_of_code(page) for name in quoted(cell)]
    assert len(names) > 100
    assert [name for name in [*names, *folders] if not is_there(name, folders)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_tests_that_are_there(page: Path) -> None:
    missing = []
    for line in page.read_text().splitlines():
        file = ""
        for name in quoted(line):
            if match := re.fullmatch(r"(?:[\w/]+/)?(test_\w+\.py|(?=::))(?:::(\w+))?", name):
                file = match[1] or file
                function = f"def {match[2]}(" if match[2] else ""
                if file not in files_of_tests() or function not in files_of_tests()[file]:
                    missing.append(name)
    assert missing == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_names_only_files_that_are_there(page: Path) -> None:
    paths = [name for name in quoted(page.read_text()) if re.fullmatch(rf"(?:{TOP})/[\w./-]+", name)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_what_is_not_there_is_noticed() -> None:
    folders = packages(PROTOCOL.read_text())
    assert is_there("units.Unit._create", folders)
    for name in ("units.Unit._resolve", "units", "nothing", "USHER_NOTHING", "scim.nothing"):
        assert is_there(name, folders) is (name == "units")
