"""An answer's head and body leave as one, and nothing that was written is held back."""

from __future__ import annotations

import asyncio

from usher_api import protocols


class Transport(asyncio.Transport):
    """Notes what it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_a_head_and_its_body_are_one_write() -> None:
    below = Transport()
    joining = protocols._Joining(below, asyncio.get_running_loop())
    joining.write(b"head ")
    assert below.written == []
    joining.write(b"body")
    assert below.written == [b"head body"]
    await asyncio.sleep(0)
    assert below.written == [b"head body"]


async def test_what_nothing_follows_goes_alone() -> None:
    below = Transport()
    joining = protocols._Joining(below, asyncio.get_running_loop())
    joining.write(b"head")
    await asyncio.sleep(0)
    assert below.written == [b"head"]


async def test_a_connection_that_ends_has_sent_all() -> None:
    below = Transport()
    joining = protocols._Joining(below, asyncio.get_running_loop())
    joining.write(b"head")
    joining.close()
    assert below.written == [b"head"]
    assert joining.is_closing()
