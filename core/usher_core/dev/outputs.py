"""The one standard output that all children of `usher dev` share, a line at a time.

The supervisor's threads write to it. A line stays whole and names the child that wrote it.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from typing import BinaryIO

_WIDTH = 9


class Output:
    """Lines with a prefix, to `stream` (standard output by default)."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        self._stream = stream or sys.stdout.buffer
        self._lock = threading.Lock()

    def write(self, name: str, line: bytes) -> None:
        """Write one line, with its end or without."""
        # Nobody reads any more (`usher dev | head`): the children must go on, or they would block.
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._stream.write(name.ljust(_WIDTH).encode() + b"| " + line.rstrip(b"\r\n") + b"\n")
            self._stream.flush()

    def say(self, words: str) -> None:
        """Write a line of the supervisor's own."""
        self.write("usher", words.encode())
