"""Children that are kept alive: a command or an embedded server that dies is started again.

`runs` adds them in the order in which they need each other; they are stopped in the opposite one. The
invariant: after `stop` no child is left, and none outlives this process however it ends, because each
stands under a keeper.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from usher_core import errors
from usher_core.dev import outputs
from usher_core.embedded import processes

_FIRST_BACKOFF = 0.2
_LONGEST_BACKOFF = 5.0
# A child that lived this long has started well; its next death is a new story.
_LIVED_WELL = 10.0
# What a grandchild that keeps the pipe open may still say after its parent is gone.
_LAST_WORDS = 1.0


class Child(Protocol):
    """What the supervisor needs of a child; the embedded servers have it as they are."""

    @property
    def name(self) -> str:
        """Its name in the output."""

    @property
    def pid(self) -> int:
        """The process id of the running child."""

    def start(self) -> None:
        """Start it, for the first time or again."""

    def wait(self) -> int:
        """Wait for its end; the status is 128 + the signal that ended it, where one did."""

    def stop(self) -> None:
        """Stop it and wait until it is gone."""


class CommandChild:
    """A command whose output goes to ours, line by line under its name.

    `grace` is how many seconds it has to end after SIGTERM. It holds the descriptors in `hold` open.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        output: outputs.Output,
        *,
        grace: float = 10.0,
        hold: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._command = tuple(command)
        self._env = dict(env)
        self._output = output
        self._grace = grace
        self._hold = tuple(hold)
        self._process: processes.KeptProcess | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process id of the command, not of its keeper."""
        return self._started.pid

    def start(self) -> None:
        """Start the command; that it runs well is not waited for."""
        self.stop()
        reading, writing = os.pipe()
        # A daemon: a grandchild that keeps the pipe open must not keep us from ending.
        self._reader = threading.Thread(target=self._read, args=(reading,), name=self.name, daemon=True)
        self._reader.start()
        try:
            self._process = processes.KeptProcess(
                self._command, env=self._env, output=writing, grace=self._grace, hold=self._hold
            )
        finally:
            os.close(writing)

    def wait(self) -> int:
        """Wait for the end of the command."""
        return self._started.wait()

    def stop(self) -> None:
        """Stop the command in order, and wait until it is gone and its last line is written."""
        if self._process is not None:
            self._process.stop()
        if self._reader is not None:
            self._reader.join(_LAST_WORDS)

    @property
    def _started(self) -> processes.KeptProcess:
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process

    def _read(self, reading: int) -> None:
        with os.fdopen(reading, "rb") as pipe:
            for line in pipe:
                self._output.write(self.name, line)


class Supervisor:
    """Keeps its children alive until `stop`; `replaced` is told of each that was started again.

    `replaced` is called from the thread that watches the child.
    """

    def __init__(self, output: outputs.Output, replaced: Callable[[Child], None] | None = None) -> None:
        self._output = output
        self._replaced = replaced
        self._children: list[Child] = []
        self._watchers: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()

    def add(self, child: Child) -> None:
        """Start a child and keep it alive from now on; if the start fails, that is the caller's."""
        self._children.append(child)
        child.start()
        watcher = threading.Thread(target=self._watch, args=(child,), name=f"watch {child.name}")
        self._watchers[child.name] = watcher
        watcher.start()

    def stop(self) -> None:
        """Stop all children, the last added first, and wait until each is gone before the next."""
        self._stopping.set()
        for child in reversed(self._children):
            child.stop()
            if child.name in self._watchers:
                self._watchers[child.name].join()

    def _watch(self, child: Child) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            started = time.monotonic()
            status = child.wait()
            if time.monotonic() - started >= _LIVED_WELL:
                backoff = _FIRST_BACKOFF
            backoff = self._start_again(child, f"ended with status {status}", backoff)
            if self._stopping.is_set():
                # Also when it was started in the moment in which `stop` stopped its predecessor.
                child.stop()
                return
            if self._replaced is not None:
                self._replaced(child)

    def _start_again(self, child: Child, trouble: str, backoff: float) -> float:
        """Try until the child has started or we stop; answers how long to wait before the next time."""
        while not self._stopping.is_set():
            self._output.say(f"{child.name} {trouble}; starting it again in {backoff:.1f} s")
            if self._stopping.wait(backoff):
                break
            backoff = min(2 * backoff, _LONGEST_BACKOFF)
            try:
                child.start()
            except (errors.UsherError, OSError) as exc:
                trouble = f"can't be started: {exc}"
            else:
                break
        return backoff
