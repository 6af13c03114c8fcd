"""What one engine saw of one target: how many inputs, the slowest, the failures, and the memory."""

from __future__ import annotations

import dataclasses
import heapq
import json
from collections.abc import Callable
from pathlib import Path

import measures
import psutil
import targets

MEGABYTE = 1_048_576
MEASURED = 5  # of the slowest inputs, for one may have been slow by chance


@dataclasses.dataclass(slots=True)
class Report:
    """The figures of a run: times in milliseconds, memory in MiB, and a file for each kind of failure."""

    target: str
    engine: str
    inputs: int = 0
    slowest: float = 0.0
    slowest_part: str = ""
    memory_at_start: float = 0.0
    memory_at_end: float = 0.0
    failures: dict[str, str] = dataclasses.field(default_factory=dict)

    def write(self, path: Path) -> None:
        """Keep the report as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def load(cls, path: Path) -> Report:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text()))


class Watch:
    """Runs the inputs of an engine; `confirm` measures again what seems slow, `folder` takes what fails."""

    def __init__(
        self,
        target: targets.Target,
        engine: str,
        folder: Path,
        confirm: Callable[[targets.Target, bytes], dict[str, float]] = measures.least_times,
    ) -> None:
        self.report = Report(target.name, engine, memory_at_start=memory())
        self._target = target
        self._folder = folder
        self._confirm = confirm
        self._slowest: list[tuple[float, bytes]] = []

    def look(self, data: bytes) -> int:
        """Run one input and judge it; tells how many parts of its way it went."""
        self.report.inputs += 1
        try:
            found = measures.times(self._target, data)
        except Exception as exc:  # noqa: BLE001 - whatever comes out is what is looked for
            self._note(measures.fault(self._target, exc), data)
            return 0
        heapq.heappush(self._slowest, (max(found.values(), default=0.0), data))
        if len(self._slowest) > MEASURED:
            heapq.heappop(self._slowest)
        if measures.slowness(self._target, data, found) is not None:
            self._judge(data)
        return len(found)

    def finish(self) -> Report:
        """Measure the slowest inputs once more, and tell the figures."""
        for _, data in self._slowest:
            self._judge(data)
        self.report.memory_at_end = memory()
        return self.report

    def _judge(self, data: bytes) -> None:
        found = self._confirm(self._target, data)
        part = max(found, key=lambda name: found[name], default="")
        if part and found[part] > self.report.slowest:
            self.report.slowest, self.report.slowest_part = found[part], part
        failure = measures.slowness(self._target, data, found)
        if failure is not None:
            self._note(failure, data)

    def _note(self, failure: measures.Failure, data: bytes) -> None:
        if failure.key not in self.report.failures:
            path = measures.save(self._folder, self._target, data)
            path.with_name(f"{path.name}.txt").write_text(failure.what)
            self.report.failures[failure.key] = str(path)


def memory() -> float:
    """Tell what of this process is in memory, in MiB."""
    return float(psutil.Process().memory_info().rss) / MEGABYTE
