"""The tree keeps the shape that Python and the readers of it rely on."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("core", "api", "worker", "operator")


@pytest.mark.parametrize("folder", [*PARTS, "tests"])
def test_a_top_level_folder_is_no_package(folder: str) -> None:
    # operator/__init__.py would stand in for the standard library's module.
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_folder_of_tests_is_a_package() -> None:
    assert list((ROOT / "tests").rglob("__init__.py")) == []


@pytest.mark.parametrize("part", PARTS)
def test_each_part_holds_one_typed_package_of_its_name(part: str) -> None:
    package = ROOT / part / f"usher_{part}"
    assert (package / "__init__.py").is_file()
    assert (package / "py.typed").is_file()


def test_operator_is_still_the_standard_library_s() -> None:
    command = "import operator; print(operator.itemgetter(0)('x'))"
    done = subprocess.run(
        [sys.executable, "-c", command], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "x\n"


def test_every_subcommand_is_a_command_with_a_help_text() -> None:
    found = {entry.name: entry.load() for entry in entry_points(group="usher.commands")}
    assert {"api", "dev", "migrate", "operator", "users", "worker"} <= found.keys()
    for command in found.values():
        assert isinstance(command, click.Command)
        assert command.help


def test_a_command_without_its_settings_says_which_are_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "usher_core.commands", "worker"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "USHER_DATABASE_URL" in done.stderr
    assert "USHER_REDIS_URL" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("lock", ["runtime.txt", "dev.txt", "uv.txt"])
def test_lock_files_carry_names_versions_and_hashes_only(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    assert "--hash=sha256:" in text
    assert "://" not in text
