"""`make fuzz` in small: a few hundred inputs of each target, the same ones each time, and the heaviest.

No time is asserted but one that nothing comes near unless it goes on for good.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from types import ModuleType

import pytest

HERE = Path(__file__).parent
INPUTS = 300
ENDLESS = 5.0  # seconds
NAMES = ("filter", "path", "search", "document", "patch", "bulk")


@pytest.fixture(scope="module")
def fuzzing() -> Iterator[ModuleType]:
    """The modules of this folder, which are scripts and find each other by their folder."""
    sys.path.insert(0, str(HERE))
    before = set(sys.modules)
    spec = importlib.util.spec_from_file_location("fuzz", HERE / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(HERE))
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == HERE:
            del sys.modules[name]


@pytest.mark.parametrize("name", NAMES)
def test_inputs_made_at_random_end_in_nothing_but_errors_of_the_protocol(
    fuzzing: ModuleType, name: str
) -> None:
    import loops

    target = fuzzing.targets.TARGETS[name]
    pool = loops.Pool(target, Random(name))
    for _ in range(INPUTS):
        data = pool.make()
        pool.note(data, len(fuzzing.measures.times(target, data)))


def test_every_target_is_tried_here(fuzzing: ModuleType) -> None:
    assert tuple(fuzzing.targets.TARGETS) == NAMES


def test_the_heaviest_bodies_within_the_limits_end(fuzzing: ModuleType) -> None:
    for name, what, data in fuzzing.heavies.inputs():
        assert len(data) <= fuzzing.heavies.MOST, what
        started = time.process_time()
        fuzzing.measures.times(fuzzing.targets.TARGETS[name], data)
        assert time.process_time() - started < ENDLESS, what


def test_a_failure_is_found_and_kept(fuzzing: ModuleType, tmp_path: Path) -> None:
    def run(data: bytes) -> Iterator[str]:
        yield "harmless"
        if b"boom" in data:
            raise RecursionError(data)

    target = fuzzing.targets.Target("filter", "text", 100, run)
    watch = fuzzing.watches.Watch(target, "none", tmp_path)
    for data in (b"a", b"boom", b"boom again"):
        watch.look(data)
    report = watch.finish()
    [(key, file)] = report.failures.items()
    assert "RecursionError" in key
    assert Path(file).read_bytes() == b"boom"
    assert report.inputs == 3
    report.write(tmp_path / "report.json")
    assert fuzzing.watches.Report.load(tmp_path / "report.json") == report


def test_what_takes_long_is_a_failure(fuzzing: ModuleType, tmp_path: Path) -> None:
    def run(data: bytes) -> Iterator[str]:
        end = time.process_time() + (0.07 if data == b"slow" else 0)
        while time.process_time() < end:
            pass
        yield "turn round"

    target = fuzzing.targets.Target("path", "text", 100, run)
    watch = fuzzing.watches.Watch(target, "none", tmp_path)
    for data in (b"quick", b"slow", b"quick"):
        watch.look(data)
    report = watch.finish()
    assert list(report.failures) == ["path: slow: turn round"]
    assert report.slowest >= 70
