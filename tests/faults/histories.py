"""What clients asked for and what they were told: the history that `checks` judges.

`clients` records, `checks` reads. A history is written as JSON lines while it happens, one for what is sent
and one for its end, so that one that ends badly can be read again. Times are of two clocks: `time.monotonic`
orders the attempts among each other, the wall clock (in microseconds) compares them with what PostgreSQL
wrote. Invariant: each attempt has a number of its own, which travels as its X-Request-Id.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import IO, Any

import orjson

USER_WRITES = ("create_user", "put_user", "set_title", "activate", "deactivate", "delete_user")
GROUP_WRITES = ("create_group", "add_members", "remove_members", "replace_members", "delete_group")
READS = ("read_user", "read_group", "find_user", "list_active")

ALL_ZEROS = "00000000-0000-0000-0000-000000000000"


@dataclasses.dataclass(frozen=True, slots=True)
class Operation:
    """What a client wants, whatever its form on the wire.

    `target`: the resource, but for creates. `name`: userName or displayName. `versions`: what If-Match names.
    `later`: a 202 is enough. `deadly`: it kills the worker that applies it. `parts`: the operations of a
    bulk; a member `bulkId:N` is what part N creates.
    """

    kind: str
    target: str = ""
    name: str = ""
    external: str = ""
    title: str = ""
    active: bool | None = None
    members: tuple[str, ...] = ()
    versions: tuple[int, ...] | None = None
    later: bool = False
    deadly: bool = False
    parts: tuple[Operation, ...] = ()

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.kind in READS


@dataclasses.dataclass(slots=True)
class Attempt:
    """One request. `status` is `None` while, or when, nobody was told what became of it; `why` says why.

    `wish` is the number of the first attempt at the same thing. `seen` is what the answer showed: resources
    for a read, the one that was made or changed for a write, the operations for a bulk.
    """

    number: int
    wish: int
    tenant: str
    operation: Operation
    sent: float
    sent_wall: int
    ended: float = float("inf")
    ended_wall: int | None = None
    status: int | None = None
    why: str = ""
    seen: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def request_id(self) -> str:
        """Its X-Request-Id."""
        return f"r{self.number}"

    @property
    def is_definite(self) -> bool:
        """Whether the client knows what became of it."""
        return self.status not in (None, 503)

    @property
    def is_acknowledged(self) -> bool:
        """Whether the client was told that it is done, or will be."""
        return self.status is not None and self.status < 300


def wall() -> int:
    """Tell the wall clock, in microseconds, as PostgreSQL does."""
    return time.time_ns() // 1000


class History:
    """The attempts in the order in which they were sent; with a file they are written down too."""

    def __init__(self, file: IO[bytes] | None = None) -> None:
        self.attempts: list[Attempt] = []
        self.whole_since = float("inf")
        """From when on nothing failed any more, in seconds of `time.monotonic`."""
        self._file = file

    def note_whole(self) -> None:
        """Take down that nothing fails any more."""
        self.whole_since = time.monotonic()
        self._write({"whole_since": self.whole_since})

    def invoke(self, tenant: str, operation: Operation, wish: int | None = None) -> Attempt:
        """Take down that a request is about to be sent; `wish`: the first attempt that it repeats."""
        number = len(self.attempts)
        first = number if wish is None else wish
        attempt = Attempt(number, first, tenant, operation, time.monotonic(), wall())
        self.attempts.append(attempt)
        sent = {name: getattr(attempt, name) for name in ("number", "wish", "tenant", "sent", "sent_wall")}
        self._write({"invoked": sent, "operation": dataclasses.asdict(operation)})
        return attempt

    def complete(
        self, attempt: Attempt, status: int | None, seen: list[dict[str, Any]] | None = None, why: str = ""
    ) -> None:
        """Take down the answer; without a status nobody was told, and `why` says what happened instead."""
        attempt.status, attempt.why, attempt.seen = status, why, seen or []
        if attempt.is_definite:
            attempt.ended = time.monotonic()
        attempt.ended_wall = wall()
        ended = {"number": attempt.number, "status": status, "why": why, "seen": attempt.seen}
        times = {"ended_wall": attempt.ended_wall}
        if attempt.is_definite:
            times |= {"ended": attempt.ended}
        self._write({"completed": ended | times})

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is not None:
            self._file.write(orjson.dumps(line) + b"\n")


def read(path: Path) -> History:
    """Read a history that was written down."""
    history = History()
    for line in path.read_bytes().splitlines():
        item = orjson.loads(line)
        if "invoked" in item:
            history.attempts.append(Attempt(operation=_operation(item["operation"]), **item["invoked"]))
        elif "whole_since" in item:
            history.whole_since = item["whole_since"]
        else:
            completed = item["completed"]
            attempt = history.attempts[completed.pop("number")]
            for name, value in completed.items():
                setattr(attempt, name, value)
    return history


def _operation(item: dict[str, Any]) -> Operation:
    parts = tuple(_operation(part) for part in item.pop("parts"))
    versions = item.pop("versions")
    return Operation(
        members=tuple(item.pop("members")),
        versions=None if versions is None else tuple(versions),
        parts=parts,
        **item,
    )
