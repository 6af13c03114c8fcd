"""What every embedded server has in common: folder, lock, port, password, start and stop.

`servers` derives PostgreSQL and Valkey from it. A server has a folder of its own, of mode 0700. It runs
under a keeper, so it never outlives us, and the folder's lock is held by keeper and server, so two never
run on one folder and a start waits until the last process of an earlier run is gone.
"""

from __future__ import annotations

import abc
import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from usher_core import errors
from usher_core.embedded import accounts, locks, ports, private_files, processes

HOST = "127.0.0.1"
_POLL = 0.01
# How long the processes of an earlier run may take to be gone: as long as the slowest may take to stop.
_LOCK_PATIENCE = 35.0
# Recovery of a large write-ahead log or append-only file after a crash takes its time.
_START_PATIENCE = 120.0


class KeptServer(abc.ABC):
    """An embedded server on the folder `data`, which is created at the first start.

    `port` is the one to listen on; `None` takes the last one again if it is free, else another. Once
    started, a server keeps its port for as long as this object lives.
    """

    name: ClassVar[str]
    _stop_signal: ClassVar[signal.Signals]
    _grace: ClassVar[float]

    def __init__(
        self, data: Path, port: int | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        self.data = data.absolute()
        self._port = port
        self._settings = dict(settings or {})
        self._process: processes.KeptProcess | None = None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1."""
        if self._port is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._port

    @property
    def password(self) -> str:
        """The password, made up at the first start and kept beside the data."""
        return private_files.password(self.data / "password")

    @property
    @abc.abstractmethod
    def url(self) -> str:
        """Where clients connect, with the password."""

    @property
    def pid(self) -> int:
        """The process id of the server itself, not of its keeper."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    def start(self) -> None:
        """Start the server, and return once it takes connections.

        Raises:
            ConfigurationInvalid: it can't run on this folder or port; the message has its last words.
        """
        if self._process is not None:
            if self._process.running:
                raise RuntimeError(f"{self.name} runs already")
            self._process.stop()
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        account = accounts.choose(self.data)
        # Keeper and server hold the lock from here on; ours would hide from the next start, of the same
        # object too, that some process of the server is still going down.
        with locks.FolderLock(self.data / "lock", self.name).take(patience=_LOCK_PATIENCE) as lock:
            self._prepare(account, lock)
            try:
                self._port = self._launch_on_some_port(account, lock)
            except BaseException:
                self.stop()
                raise
        private_files.write(self.data / "port", str(self._port))

    def wait(self) -> int:
        """Wait until the server has ended, and answer its status (128 + the signal that ended it)."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.wait()

    def stop(self) -> None:
        """Stop the server in order; one that doesn't run is fine."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Send SIGKILL to the server, for tests of what follows; `start` brings it back."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @abc.abstractmethod
    def _prepare(self, account: accounts.Account, lock: locks.FolderLock) -> None:
        """Make the folder ready for a start; the lock is held."""

    @abc.abstractmethod
    def _command(self, port: int, account: accounts.Account) -> list[str]:
        """Answer the command line, with the folder as the working folder."""

    @abc.abstractmethod
    def _is_ready(self, port: int, process: processes.KeptProcess) -> bool:
        """Tell whether the server takes connections."""

    def _ports(self) -> Iterator[int]:
        if self._port is not None:
            if ports.is_free(self._port):
                yield self._port
            return
        with contextlib.suppress(FileNotFoundError, ValueError):
            last = int((self.data / "port").read_text(encoding="utf-8"))
            if ports.is_free(last):
                yield last
        yield from ports.candidates()

    def _launch_on_some_port(self, account: accounts.Account, lock: locks.FolderLock) -> int:
        for port in self._ports():
            if self._launch(port, account, lock):
                return port
        taken = "every port that was tried" if self._port is None else f"port {self._port}"
        raise errors.ConfigurationInvalid(f"{self.name}: {taken} of {HOST} is taken by another process")

    def _launch(self, port: int, account: accounts.Account, lock: locks.FolderLock) -> bool:
        """Start the process and wait until it is ready; `False` when the port was taken meanwhile."""
        command = self._command(port, account)
        account.give(self.data)
        with self._log.open("wb") as log:
            process = processes.KeptProcess(
                command,
                env=environment(),
                output=log,
                cwd=self.data,
                stop_signal=self._stop_signal,
                grace=self._grace,
                account=account,
                hold=[lock.descriptor],
            )
        self._process = process
        deadline = time.monotonic() + _START_PATIENCE
        while process.running and time.monotonic() < deadline:
            if self._is_ready(port, process):
                return True
            time.sleep(_POLL)
        process.stop()
        said = self._log.read_text(encoding="utf-8", errors="replace").strip()
        if "already in use" in said and not ports.is_free(port):
            return False
        raise errors.ConfigurationInvalid(f"{self.name} did not start on {self.data}: {said[-1000:]}")

    @property
    def _log(self) -> Path:
        return self.data / "server.log"


def environment() -> dict[str, str]:
    """Our environment without the variables that would change what a server or initdb does."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}
