"""The parent of several worker processes: it sweeps, shows how they are, and keeps them running.

It drains nothing itself. Each of its children (`children`) is an interpreter of its own, not a fork, for the
parent has threads. One that ends unasked is replaced, after a pause that grows; one that reached a limit of
its, at once. None outlives the parent: each reads a pipe whose other end only the parent holds.
"""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
import threading
import time

import structlog

from usher_core import settings
from usher_worker import metrics, ports, sweeps

log = structlog.get_logger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0

LIVED_WELL = 10.0
"""A child that lived so long has started well: its end says nothing about the next one's."""


class Child:
    """The place of one child, and whoever takes it now."""

    def __init__(self, number: int) -> None:
        self.number = number
        self._process: subprocess.Popen[bytes] | None = None
        self._started = 0.0
        self._pause = FIRST_PAUSE
        self._due = 0.0

    @property
    def runs(self) -> bool:
        """Whether somebody takes the place, as far as was noticed."""
        return self._process is not None

    @property
    def wait(self) -> float | None:
        """How many seconds until `tend` has something to do by itself."""
        return None if self.runs else max(0.0, self._due - time.monotonic())

    def tend(self) -> None:
        """Notice that the child has ended; start one when it is time."""
        if self._process is not None and self._process.poll() is not None:
            self._note_end(self._process.returncode)
        if self._process is None and time.monotonic() >= self._due:
            self._start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the child, if there is one."""
        if self._process is not None:
            self._process.send_signal(number)

    def join(self, deadline: float) -> None:
        """Wait for the end of the child until then, and kill it if it is still there."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            log.warning("worker.killed", number=self.number, pid=self._process.pid)

    def _start(self) -> None:
        self._started = time.monotonic()
        # -P: a module of the working folder must not stand in for one of ours.
        command = [sys.executable, "-P", "-m", "usher_worker.children", str(self.number)]
        try:
            # A group of its own: Ctrl-C in the terminal reaches the parent alone, which stops all in order.
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, process_group=0)  # noqa: S603
        except OSError as exc:
            log.warning("worker.not_started", number=self.number, error=str(exc))
            self._put_off()
        else:
            log.info("worker.started", number=self.number, pid=self._process.pid)

    def _note_end(self, status: int) -> None:
        assert self._process is not None  # noqa: S101 - it ended just now
        if self._process.stdin is not None:
            self._process.stdin.close()
        lived, pid, self._process = time.monotonic() - self._started, self._process.pid, None
        if status == 0:
            metrics.REPLACED.labels("limit").inc()
            self._due, self._pause = 0.0, FIRST_PAUSE
            return
        if lived >= LIVED_WELL:
            self._pause = FIRST_PAUSE
        metrics.REPLACED.labels("died").inc()
        log.error("worker.died", number=self.number, pid=pid, status=status, after=round(lived, 3))
        self._put_off()

    def _put_off(self) -> None:
        self._due = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)


class Parent:
    """A worker of several processes."""

    def __init__(self, config: settings.Settings) -> None:
        self._config = config
        self._stopping = threading.Event()
        self._children = [Child(number) for number in range(1, config.worker_processes + 1)]
        # Its `put` may interrupt anything, also its own `get`: it suits a handler of signals.
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()

    def run(self) -> None:
        """Keep the children running until SIGINT or SIGTERM; return when the last one has ended."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD):
            signal.signal(number, lambda number, _: self._signals.put(number))
        sweep = sweeps.Sweep(self._config, self._stopping)
        sweep.start()
        if self._config.worker_metrics_port:
            ports.serve(self._config.worker_metrics_port, sweep, self._running)
        try:
            self._keep()
        finally:
            self._stop()
        log.info("worker.stopped")

    def _keep(self) -> None:
        asked = None
        while asked not in (signal.SIGINT, signal.SIGTERM):
            for child in self._children:
                child.tend()
            metrics.PROCESSES.set(self._running())
            waits = [child.wait for child in self._children if child.wait is not None]
            try:
                asked = self._signals.get(timeout=min(waits, default=None))
            except queue.Empty:
                asked = None

    def _stop(self) -> None:
        self._stopping.set()
        deadline = time.monotonic() + self._config.drain_lifetime
        for child in self._children:
            child.signal(signal.SIGTERM)
        for child in self._children:
            child.join(deadline)

    def _running(self) -> int:
        return sum(child.runs for child in self._children)
