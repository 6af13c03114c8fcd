"""The engine that is always there: inputs made at random, without knowledge of what they reach.

It runs the code as it is, so its times are true and its memory is the code's own: half the inputs are run
before the memory is looked at, and the other half must not add to it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from random import Random

import measures
import mutations
import seeds
import targets
import watches

GROWTH = 32.0  # MiB; what is compiled of paths and projections is kept, up to a limit
KEPT = 400
LARGE = 4096  # bytes; larger ones are made, and not changed further


class Pool:
    """Makes inputs: the seeds, then changes of them, and of those changes that went as far on their way."""

    def __init__(self, target: targets.Target, random: Random) -> None:
        self._target = target
        self._random = random
        self._seeds: list[tuple[bytes, int]] = []
        self._fresh = [seed[: target.most] for seed in reversed(seeds.of_form(target.form))]
        self._kept: list[tuple[bytes, int]] = []
        self._expected = 0

    def make(self) -> bytes:
        """Make the next input."""
        if self._fresh:
            return self._fresh.pop()
        random = self._random
        parents = self._kept if self._kept and random.random() < 0.5 else self._seeds
        parent, self._expected = random.choice(parents)
        return mutations.mutate(self._target.form, parent, random, self._target.most)

    def note(self, data: bytes, parts: int) -> None:
        """Learn how many parts of its way the last input went."""
        if len(self._seeds) < len(seeds.of_form(self._target.form)):
            self._seeds.append((data, parts))
        elif parts >= self._expected and len(data) < LARGE:
            self._kept = [*self._kept, (data, parts)][-KEPT:]


def run(target: targets.Target, seconds: float, folder: Path, seed: int) -> watches.Report:
    """Run a target for some seconds."""
    watch = watches.Watch(target, "random", folder)
    pool = Pool(target, Random(seed))
    half = time.monotonic() + seconds / 2
    end = half + seconds / 2
    _until(half, pool, watch)
    warm = watch.report.memory_at_start = watches.memory()
    _until(end, pool, watch)
    report = watch.finish()
    if report.memory_at_end - warm > GROWTH:
        grown = f"from {warm:.0f} to {report.memory_at_end:.0f} MiB, with the seed {seed}"
        report.failures[f"{target.name}: memory grows {grown}"] = ""
    return report


def _until(end: float, pool: Pool, watch: watches.Watch) -> None:
    while time.monotonic() < end:
        data = pool.make()
        pool.note(data, watch.look(data))


def main() -> None:
    """Run a target in this process and write the report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("report", type=Path)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    given = parser.parse_args()
    measures.settle()
    run(targets.TARGETS[given.target], given.seconds, given.folder, given.seed).write(given.report)


if __name__ == "__main__":
    main()
