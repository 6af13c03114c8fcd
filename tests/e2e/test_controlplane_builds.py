"""The control plane is built once, whole or not at all, and who can't build it is told what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from controlplane import builds

# Stands in for Go: notes what it is asked to build, and builds an empty program or fails.
GO = """#!/bin/sh
case "$1" in
env) echo go{version} ;;
build)
  for package; do :; done
  echo "$package" >> {log}
  if [ "$package" = "{broken}" ]; then echo "no such thing: $package" >&2; exit 1; fi
  sleep {seconds}
  while [ "$1" != -o ]; do shift; done
  : > "$2" ;;
esac
"""
PACKAGES = [package for _, package in builds.PROGRAMS.values()]


def install_go(
    folder: Path, *, version: str = "1.26.8", broken: str = "nothing", seconds: float = 0
) -> dict[str, str]:
    """Put a Go on a PATH of its own; return the environment of a build with it."""
    (folder / "bin").mkdir(exist_ok=True)
    script = GO.format(version=version, broken=broken, seconds=seconds, log=folder / "built")
    (folder / "bin" / "go").write_text(script)
    (folder / "bin" / "go").chmod(0o755)
    return environment(folder)


def environment(folder: Path) -> dict[str, str]:
    nothing = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "XDG_CACHE_HOME": str(folder / "cache")}
    return {key: value for key, value in os.environ.items() if not key.startswith("GO")} | nothing


def start(env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, builds.__file__], env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def built(folder: Path) -> list[str]:
    return (folder / "built").read_text().split()


def test_a_machine_without_go_is_told_of_both_ways(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    with start(environment(tmp_path)) as run:
        said, trouble = run.communicate(timeout=30)
    assert (run.returncode, said) == (1, "")
    assert "Go is not on PATH" in trouble
    assert "Go 1.26.0 or later" in trouble
    assert "USHER_E2E_CONTEXT" in trouble
    assert "Traceback" not in trouble
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("version", ["1.25.9", "1.9"])
def test_an_old_go_is_named(tmp_path: Path, version: str) -> None:
    with start(install_go(tmp_path, version=version)) as run:
        said, trouble = run.communicate(timeout=30)
    assert (run.returncode, said) == (1, "")
    assert f"is go{version}" in trouble
    assert not (tmp_path / "built").exists()


def test_a_second_run_builds_nothing(tmp_path: Path) -> None:
    env = install_go(tmp_path)
    folders = set()
    for _ in range(2):
        with start(env) as run:
            said, trouble = run.communicate(timeout=30)
        assert run.returncode == 0, trouble
        folders.add(Path(said.strip()))
    (folder,) = folders
    assert {path.name for path in folder.iterdir()} == builds.PROGRAMS.keys()
    assert built(tmp_path) == PACKAGES
    assert {path.name for path in folder.parent.iterdir()} == {folder.name, f"{folder.name}.lock"}


def test_what_is_built_needs_no_go(tmp_path: Path) -> None:
    with start(install_go(tmp_path)) as run:
        first, _ = run.communicate(timeout=30)
    (tmp_path / "bin" / "go").unlink()
    with start(environment(tmp_path)) as run:
        second, _ = run.communicate(timeout=30)
    assert (run.returncode, second) == (0, first)


def test_two_at_once_build_once(tmp_path: Path) -> None:
    env = install_go(tmp_path, seconds=0.5)
    with start(env) as one, start(env) as other:
        said = {run.communicate(timeout=60) for run in (one, other)}
    assert len({folder for folder, _ in said}) == 1
    assert sum("another run builds it" in trouble for _, trouble in said) == 1
    assert built(tmp_path) == PACKAGES


def test_a_build_that_failed_tells_why_and_goes_on_where_it_was(tmp_path: Path) -> None:
    broken = PACKAGES[2]
    with start(install_go(tmp_path, broken=broken)) as run:
        said, trouble = run.communicate(timeout=30)
    assert (run.returncode, said) == (1, "")
    assert f"no such thing: {broken}" in trouble
    assert built(tmp_path) == PACKAGES[:3]
    with start(install_go(tmp_path)) as run:
        _, trouble = run.communicate(timeout=30)
    assert run.returncode == 0, trouble
    assert built(tmp_path) == [*PACKAGES[:3], *PACKAGES[2:]]
