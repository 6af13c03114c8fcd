"""Builds the Kubernetes control plane of the end-to-end tests from Go modules, once, into a cache.

`make e2e` runs it as a program, so that the long first build can be watched; tests/e2e/conftest.py calls it:

    python tests/e2e/controlplane/builds.py     # prints the folder of the programs

The versions stand in `kubernetes/go.mod` and `etcd/go.mod`. Invariant: a folder that is returned holds every
program, whole; a build that was broken off goes on where it was, and two at once build once.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

from usher_core import errors
from usher_core.embedded import locks

MODULES = Path(__file__).parent

# The programs, each with its module's folder here and its package.
PROGRAMS = {
    "etcd": ("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": ("kubernetes", "k8s.io/kubernetes/cmd/kube-apiserver"),
    "kube-controller-manager": ("kubernetes", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    "kube-scheduler": ("kubernetes", "k8s.io/kubernetes/cmd/kube-scheduler"),
}

_TOLD_EACH = 15.0  # seconds
_PATIENCE = 3600.0  # seconds for which another run's build is waited for

Report = Callable[[str], None]


class BuildImpossible(RuntimeError):
    """The control plane is not built and can't be; the message says what to do."""


def build(report: Report) -> Path:
    """Return the folder of the programs; build them first where they are not there.

    Raises: BuildImpossible.
    """
    folder = _cache_folder() / _fingerprint()
    if folder.is_dir():
        return folder
    go = _find_go()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with _locked(folder.with_name(f"{folder.name}.lock"), report) as lock:
        if not folder.is_dir():
            _build_all(go, folder, lock, report)
    return folder


def _cache_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "usher" / "controlplane"


def _fingerprint() -> str:
    """Name a build by all that it is made from, but for the version of Go."""
    made_from = hashlib.sha256(repr((PROGRAMS, platform.system(), platform.machine())).encode())
    for path in sorted(MODULES.glob("*/go.*")):
        made_from.update(path.relative_to(MODULES).as_posix().encode() + b"\0" + path.read_bytes())
    return made_from.hexdigest()[:16]


def _find_go() -> str:
    """Find a Go that is recent enough, or may fetch one that is."""
    module = MODULES / "kubernetes"
    wanted = _named(r"^go (\S+)$", module)
    go = shutil.which("go")
    if go is None:
        raise BuildImpossible(_advice(wanted, "Go is not on PATH"))
    # Asked in the module's folder: a Go that is told to (GOTOOLCHAIN) becomes the one that go.mod wants.
    run = subprocess.run([go, "env", "GOVERSION"], cwd=module, capture_output=True, text=True, check=False)
    found = re.match(r"go(\d+)\.(\d+)", run.stdout)
    if found is None:
        raise BuildImpossible(_advice(wanted, f"{go} does not tell its version: {run.stderr.strip()}"))
    if (int(found[1]), int(found[2])) < tuple(int(number) for number in wanted.split(".")[:2]):
        raise BuildImpossible(_advice(wanted, f"{go} is {run.stdout.strip()}"))
    return go


def _advice(wanted: str, trouble: str) -> str:
    return (
        f"the end-to-end tests need a Kubernetes API server, and have none: {trouble}.\n"
        f"Either put Go {wanted} or later on PATH: a control plane is then built from source, once (about\n"
        "8 minutes on two cores, 5 GB of disk). Or name a cluster that is the tests' to write in:\n"
        "    make e2e KUBECONFIG=FILE USHER_E2E_CONTEXT=NAME"
    )


def _named(pattern: str, module: Path) -> str:
    """Return what go.mod names at the pattern's group."""
    found = re.search(pattern, (module / "go.mod").read_text(), re.MULTILINE)
    assert found is not None, pattern
    return found[1]


def _locked(path: Path, report: Report) -> locks.FolderLock:
    lock = locks.FolderLock(path, "a build of the control plane")
    try:
        return lock.take()
    except errors.ConfigurationInvalid:
        report("another run builds it: waiting for that one")
        return lock.take(patience=_PATIENCE)


def _build_all(go: str, folder: Path, lock: locks.FolderLock, report: Report) -> None:
    partial = folder.with_name(f"{folder.name}.partial")
    programs, source = partial / "programs", partial / "source"
    programs.mkdir(parents=True, exist_ok=True)
    # Built from a copy: Go may be told to complete go.mod and go.sum, and a clone is not its to change.
    for path in MODULES.glob("*/go.*"):
        (source / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, source / path.relative_to(MODULES))
    for number, (name, (module, package)) in enumerate(PROGRAMS.items(), 1):
        told = f"{number} of {len(PROGRAMS)}, {name}"
        if (programs / name).is_file():
            report(f"{told}: there already")
            continue
        report(f"{told}: building")
        started = time.monotonic()
        beside = partial / name
        _compile([go, "build", *_flags(), "-o", str(beside), package], source / module, lock, told, report)
        beside.rename(programs / name)
        report(f"{told}: built in {time.monotonic() - started:.0f} s")
    programs.rename(folder)
    shutil.rmtree(partial)


def _flags() -> list[str]:
    """Name Go's flags. The programs are told their version, which clients ask for, as a release is."""
    version = _named(r"^\s*k8s\.io/kubernetes (v\S+)", MODULES / "kubernetes")
    major, minor, *_ = version.removeprefix("v").split(".")
    told = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "archive"}
    places = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    stamps = [f"-X {place}.{name}={value}" for place in places for name, value in told.items()]
    return ["-v", "-trimpath", "-ldflags", " ".join(["-s", "-w", *stamps])]


def _compile(command: list[str], source: Path, lock: locks.FolderLock, told: str, report: Report) -> None:
    """Run Go at the lowest priority; it holds the lock too, for it outlives a run that is killed."""
    last, packages, spoken = deque[str](maxlen=30), 0, time.monotonic()
    with subprocess.Popen(
        ["nice", "-n", "19", *command],
        cwd=source,
        env=os.environ | {"CGO_ENABLED": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        pass_fds=[lock.descriptor],
    ) as compiling:
        assert compiling.stdout is not None
        for line in compiling.stdout:
            last.append(line)
            packages += not line.startswith("go: ")
            if time.monotonic() > spoken + _TOLD_EACH:
                spoken = time.monotonic()
                report(f"{told}: {packages} packages compiled")
    if compiling.returncode != 0:
        raise BuildImpossible(f"the control plane could not be built, {told}:\n{''.join(last).rstrip()}")


def main() -> None:
    """Build where needed, telling of it on stderr, and print the folder."""
    try:
        print(build(lambda line: print(f"controlplane: {line}", file=sys.stderr, flush=True)))
    except (BuildImpossible, errors.ConfigurationInvalid) as exc:
        sys.exit(f"controlplane: {exc}")


if __name__ == "__main__":
    main()
