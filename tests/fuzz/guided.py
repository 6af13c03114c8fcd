"""The engine that looks where its inputs lead: atheris, which keeps those that reach new lines.

Its counters make the code several times slower, so what seems slow is measured again in a process without
them. What it keeps stays in the corpus, and the next run begins with it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["usher_core", "usher_api"]):
    import targets

import measures
import mutations
import seeds
import watches

REPLAY = Path(__file__).with_name("replay.py")
HANGS = 120  # seconds of one input, with what it takes to measure it again


def replayed(folder: Path) -> Callable[[targets.Target, bytes], dict[str, float]]:
    """Make the measurement of an input by a process without counters."""

    def measure(target: targets.Target, data: bytes) -> dict[str, float]:
        path = measures.save(folder / "slow", target, data)
        done = subprocess.run(
            [sys.executable, str(REPLAY), str(path)], capture_output=True, text=True, timeout=300, check=False
        )
        found: dict[str, float] = json.loads(done.stdout)
        path.unlink()
        return found

    return measure


def dictionary(path: Path) -> Path:
    """Write the words of SCIM in libFuzzer's form."""
    lines = ("".join(f"\\x{byte:02x}" for byte in word.encode()) for word in seeds.WORDS)
    path.write_text("".join(f'"{line}"\n' for line in lines))
    return path


def main() -> None:
    """Run a target until its time is over; never returns, for libFuzzer ends the process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("target", choices=targets.TARGETS)
    parser.add_argument("seconds", type=float)
    parser.add_argument("folder", type=Path)
    parser.add_argument("report", type=Path)
    given = parser.parse_args()
    target = targets.TARGETS[given.target]
    corpus = given.folder / "corpus" / target.name
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds.of_form(target.form)):
        (corpus / f"seed-{number}").write_bytes(seed)
    watch = watches.Watch(target, "atheris", given.folder, replayed(given.folder))
    end = time.monotonic() + given.seconds

    def one(data: bytes) -> None:
        watch.look(data)
        if time.monotonic() > end:
            signal.setitimer(signal.ITIMER_REAL, 0)  # measuring again is no input that hangs
            watch.finish().write(given.report)
            os._exit(0)  # libFuzzer has no way to be told that it is enough

    def change(data: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            return bytes(atheris.Mutate(data, most))
        return mutations.mutate(target.form, data, random, most)

    options = [
        f"-dict={dictionary(given.folder / 'words.dict')}",
        f"-max_len={target.most}",
        f"-timeout={HANGS}",
        f"-artifact_prefix={given.folder}/{target.name}-",
        "-rss_limit_mb=0",
        "-verbosity=0",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], one, custom_mutator=change)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
