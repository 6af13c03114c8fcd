"""The long run: `make soak`, for SOAK_MINUTES (30); the same code as the tests, and the same check.

Prints the seed first, a table at the end, and where the history is if something should not have been; then it
ends with 1. USHER_FAULTS_SEED gives the seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import runs
import uvloop
from rich.console import Console


def main() -> int:
    """Run it; returns 1 when something should not have been."""
    parser = argparse.ArgumentParser()
    parser.add_argument("minutes", type=float, nargs="?", default=30.0)
    minutes = parser.parse_args().minutes
    console = Console(width=140)
    seed = runs.seed()
    console.print(f"USHER_FAULTS_SEED={seed}, {minutes:g} minutes")
    with tempfile.TemporaryDirectory(prefix="usher-soak-") as folder:
        result = uvloop.run(runs.run(Path(folder), seed, seconds=minutes * 60))
        runs.show(result, console)
        if result.violations:
            console.print(f"kept in {runs.keep(result)}")
    return int(bool(result.violations))


if __name__ == "__main__":
    sys.exit(main())
