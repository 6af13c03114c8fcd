"""One input, run and judged: no error but the protocol's, and no part of its way takes long.

Reading may take `LIMIT` milliseconds, for meanwhile an api process serves nobody else. So may applying, in a
worker that has one tenant at a time, and a little more for each byte: members are looked up one by one. Time
is the processor's, so that a busy machine spoils little; what seems slow is run three more times, and its
least time counts.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import time
import traceback
from pathlib import Path

import targets

LIMIT = 50.0  # milliseconds
PER_BYTE = 0.0002
RUNS_AGAIN = 3


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """What is wrong with an input; of failures with the same `key` one is enough."""

    key: str
    what: str


def settle() -> None:
    """Do as the api does once it has started: what was imported is not looked at again and again."""
    gc.collect()
    gc.freeze()


def times(target: targets.Target, data: bytes) -> dict[str, float]:
    """Run an input; tell the longest time of each part in milliseconds. Raises whatever comes out of it."""
    longest: dict[str, float] = {}
    started = time.process_time_ns()
    for part in target.run(data):
        spent = (time.process_time_ns() - started) / 1e6
        longest[part] = max(longest.get(part, 0.0), spent)
        started = time.process_time_ns()
    return longest


def least_times(target: targets.Target, data: bytes, runs: int = RUNS_AGAIN) -> dict[str, float]:
    """Run an input several times; tell the least time of each part, as often as there was one."""
    found = times(target, data)
    for _ in range(runs - 1):
        again = times(target, data)
        found |= {part: min(spent, found.get(part, spent)) for part, spent in again.items()}
    return found


def slowness(target: targets.Target, data: bytes, found: dict[str, float]) -> Failure | None:
    """Describe a part that took too long; `None`: none did."""
    for part, spent in found.items():
        limit = LIMIT + (PER_BYTE * len(data) if part.startswith("apply") else 0.0)
        if spent > limit:
            what = f"{part} takes {spent:.1f} ms; {limit:.0f} are allowed"
            return Failure(f"{target.name}: slow: {part}", what)
    return None


def fault(target: targets.Target, error: BaseException) -> Failure:
    """Describe what came out of a target."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    key = f"{target.name}: {type(error).__name__} at {Path(place.filename).name}:{place.lineno}"
    return Failure(key, "".join(traceback.format_exception(error)))


def save(folder: Path, target: targets.Target, data: bytes) -> Path:
    """Keep an input in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target.name}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path
