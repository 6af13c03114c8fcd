"""Fuzz everything that reads what clients send, for some seconds: `make fuzz FUZZ_SECONDS=60`.

First the heaviest inputs that are known, then each target by each engine, then requests to a whole Usher.
Prints the figures, leaves what failed in `build/fuzz`, and ends with 1 if anything did.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import heavies
import measures
import targets
import watches
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
FOLDER = HERE.parents[1] / "build" / "fuzz"
PATIENCE = 120.0  # seconds that an engine may take beyond its own
# Of the time: for atheris, for inputs at random, for requests.
SHARES = {"guided.py": 0.5, "loops.py": 0.3, "over_http.py": 0.2}


def main() -> int:
    """Run all of it; returns 1 when something failed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", type=float, nargs="?", default=60.0)
    seconds = parser.parse_args().seconds
    FOLDER.mkdir(parents=True, exist_ok=True)
    measures.settle()
    shares = dict(SHARES)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: inputs are made at random, whatever they reach", flush=True)
        shares["loops.py"] += shares.pop("guided.py")
    reports = list(_heavies())
    for script, share in shares.items():
        if script == "over_http.py":
            reports.append(_run(script, [], seconds * share))
        else:
            each = seconds * share / len(targets.TARGETS)
            reports += [_run(script, [name], each) for name in targets.TARGETS]
    _show(reports)
    failures = {key: file for report in reports for key, file in report.failures.items()}
    for key, file in failures.items():
        print(f"FAILED {key}\n       {file}")
    return int(bool(failures))


def _heavies() -> list[watches.Report]:
    reports = {name: watches.Watch(target, "heaviest", FOLDER) for name, target in targets.TARGETS.items()}
    for name, _, data in heavies.inputs():
        reports[name].look(data)
    return [watch.finish() for watch in reports.values()]


def _run(script: str, arguments: list[str], seconds: float) -> watches.Report:
    """Run an engine in a process of its own: its memory is its own, and so is its end."""
    name = "-".join([script.removesuffix(".py"), *arguments])
    kept, log = FOLDER / f"{name}.json", FOLDER / f"{name}.log"
    kept.unlink(missing_ok=True)
    command = [sys.executable, str(HERE / script), *arguments, str(seconds), str(FOLDER), str(kept)]
    with log.open("wb") as output, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(command, stdout=output, stderr=output, timeout=seconds + PATIENCE, check=False)
    if kept.exists():
        return watches.Report.load(kept)
    return watches.Report(name, script, failures={f"{name}: it ended, or hung, without a report": str(log)})


def _show(reports: list[watches.Report]) -> None:
    table = Table()
    for title in ("target", "engine", "inputs", "slowest ms", "in", "MiB at start", "at end", "failures"):
        table.add_column(title, justify="left" if title in ("target", "engine", "in") else "right")
    for one in reports:
        memory = f"{one.memory_at_start:.0f}", f"{one.memory_at_end:.0f}"
        slowest = f"{one.slowest:.1f}", one.slowest_part
        table.add_row(one.target, one.engine, f"{one.inputs}", *slowest, *memory, f"{len(one.failures)}")
    Console(width=120).print(table)
    print(f"A part may take {measures.LIMIT:.0f} ms of the processor; the time of http is that of the clock.")


if __name__ == "__main__":
    sys.exit(main())
