"""`usher`, with a fault planted in it: `python plants.py FAULT worker`, or `api` with its options.

For tests alone: each changes the code of its own process before the command runs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import orjson

from usher_core import commands
from usher_core.changes import records, units

DEADLY = "kills its worker"
"""The title of a user whose create does so."""


def plant_death() -> None:
    """Die over a deadly change, each time it is applied."""
    apply = units.Unit.apply

    def deadly(self: units.Unit, change: records.Change) -> records.Outcome:
        if DEADLY.encode() in orjson.dumps(change.body):
            os.kill(os.getpid(), signal.SIGKILL)
        return apply(self, change)

    units.Unit.apply = deadly  # type: ignore[method-assign]


def plant_haste() -> None:
    """Answer a create before it is committed, as if it had succeeded."""
    from usher_api import writes

    send = writes.Writes._send
    tasks: set[asyncio.Task[Any]] = set()

    async def hasty(
        self: writes.Writes, principal: Any, change: records.Change, *rest: Any, **more: Any
    ) -> Any:
        sending = asyncio.create_task(send(self, principal, change, *rest, **more))
        if change.operation != "create":
            return await sending
        tasks.add(sending)
        sending.add_done_callback(lambda task: (tasks.discard(task), task.exception()))
        now = records.now()
        document = {"active": True, **change.body}
        return records.Outcome(change.change_id, 201, None, None, 1, now, now, document)

    writes.Writes._send = hasty  # type: ignore[method-assign]


def plant_hope() -> None:
    """Let a retry wait for its first try whatever became of that one."""
    from usher_api import retries

    hopeful = retries.LEAVE.replace("or not mark and ARGV[4] == '0'", "")
    assert hopeful != retries.LEAVE
    retries.LEAVE = hopeful


FAULTS: dict[str, Callable[[], None]] = {"death": plant_death, "haste": plant_haste, "hope": plant_hope}

if __name__ == "__main__":
    FAULTS[sys.argv.pop(1)]()
    commands.main()
