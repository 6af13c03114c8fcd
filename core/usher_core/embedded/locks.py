"""One owner a folder, by a lock that the kernel gives up when its last holder dies.

The servers and `usher dev` take it. The lock belongs to an open file, so it can be handed to a child
process with its descriptor: it then stands until parent and child are both gone. Whoever holds the lock
of a server's folder knows that no server runs on it, whatever stale pid files say.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType

from usher_core import errors

_POLL = 0.02


class FolderLock:
    """The lock in the file `path`, which holds the taker's process id; released by `close` or by death.

    `purpose` is the subject of the message for whoever comes second, such as "usher dev".
    """

    def __init__(self, path: Path, purpose: str) -> None:
        self._path = path
        self._purpose = purpose
        self._descriptor: int | None = None

    @property
    def descriptor(self) -> int:
        """The open file that carries the lock, to be passed to a child that shall hold it too."""
        if self._descriptor is None:
            raise RuntimeError(f"the lock {self._path} is not held")
        return self._descriptor

    def take(self, *, patience: float = 0.0) -> FolderLock:
        """Take the lock, waiting up to `patience` seconds for its holder to go.

        Raises:
            ConfigurationInvalid: someone else holds it; the message has their process id.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        deadline = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < deadline:
                    time.sleep(_POLL)
                    continue
                holder = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
                os.close(descriptor)
                raise errors.ConfigurationInvalid(
                    f"{self._purpose} already runs on {self._path.parent} (process {holder}):"
                    " stop it first, or choose another folder"
                ) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor
        return self

    def close(self) -> None:
        """Let go of the lock; a child that was handed the descriptor still holds it."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
