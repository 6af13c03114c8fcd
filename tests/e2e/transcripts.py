"""Transcripts in a document: its `console` blocks, run again and compared with what stands there.

tests/e2e/test_e2e_transcripts.py runs them. A line that begins with `$ ` is a command, what follows is its
output. Invariant: what differs from run to run (names, moments, ids, ages) is made alike, nothing else is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

BASE = datetime(2026, 11, 24, 9, tzinfo=UTC)
"""When everything in a document happened."""

_PIECE = re.compile(
    r"^```console\n(?P<block>.*?)^```$|^<!-- (?P<who>\w+): (?P<what>\w+) -->$", re.MULTILINE | re.DOTALL
)
_MOMENT = re.compile(r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_AGE = re.compile(r"(?<![\w.=-])(?:\d+m)?\d+s(?![\w-])")
_UID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


@dataclasses.dataclass(frozen=True)
class Alike:
    """What makes outputs of different runs alike; `names` are texts with what stands for them."""

    began: datetime
    names: Callable[[], Mapping[str, str]]

    def __call__(self, text: str) -> str:
        """Replace what differs."""
        for name, stand_in in self.names().items():
            text = text.replace(name, stand_in)
        text = _MOMENT.sub(self._moment, text)
        text = _AGE.sub(lambda found: "5s".ljust(len(found[0])), text)
        text = _UID.sub("0e4e3a8c-4f0b-4b5e-9d2a-6f1c7a9b2d35", text)
        text = re.sub(r"(Resource Version: +)\d+", r"\g<1>1287", text)
        text = re.sub(r"(checksum\.usher\.dev/\w+: )[0-9a-f]{16}", r"\g<1>c0ffee0123456789", text)
        return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")

    def _moment(self, found: re.Match[str]) -> str:
        """Move a moment of the run to the document's; to the hour, for a run takes its time."""
        since = datetime.fromisoformat(found[0]) - self.began
        if abs(since) > timedelta(days=400):
            return found[0]  # of the document that was applied
        return (BASE + timedelta(hours=round(since / timedelta(hours=1)))).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_same(one: str, other: str) -> bool:
    """Compare outputs; columns are as wide as what stands in them, so spaces count as one."""
    return one.split() == other.split()


def replayed(document: str, run: Callable[[str, str], str], do: Callable[[str, str], None]) -> str:
    """Return the document with the output of each command that `run` gives for it and what stood there.

    `do` is called for each remark of the form `<!-- operator: stop -->`, in its turn.
    """

    def piece(found: re.Match[str]) -> str:
        if found["block"] is None:
            do(found["who"], found["what"])
            return found[0]
        told = []
        for command, output in commands(found["block"]):
            said = run(command, output)
            told.append(f"$ {command}\n{said}" if said else f"$ {command}")
        return "```console\n" + "\n".join(told) + "\n```"

    return _PIECE.sub(piece, document)


def commands(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block with its output."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        yield command, output.strip("\n")
