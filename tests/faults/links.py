"""TCP links between a process and a backend that the test can slow down, cut, or make swallow everything."""

from __future__ import annotations

import asyncio
import contextlib

CHUNK = 1 << 16


class Link:
    """Listens on a port of loopback and passes everything on to another, both ways, unless told otherwise."""

    def __init__(self, name: str, target: int) -> None:
        self.name = name
        self.port = 0
        self.delay = 0.0
        """Seconds by which each piece is late, in either direction."""
        self._target = target
        self._server: asyncio.Server | None = None
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_refusing = False
        self._writers: set[asyncio.StreamWriter] = set()
        self._pairs: set[asyncio.Task[None]] = set()
        self._upstream: dict[asyncio.StreamWriter, int] = {}

    @property
    def upstream_ports(self) -> list[int]:
        """The ports from which the backend sees this link's connections."""
        return list(self._upstream.values())

    async def open(self) -> None:
        """Begin to listen; `port` says where."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Cut everything and listen no more."""
        if self._server is not None:
            self._server.close()
        self.heal()
        self.cut()
        for task in list(self._pairs):
            task.cancel()
        await asyncio.gather(*self._pairs, return_exceptions=True)

    def cut(self) -> None:
        """End every connection at once; new ones are welcome."""
        for writer in list(self._writers):
            writer.transport.abort()

    def refuse(self) -> None:
        """End every connection, and each new one, until `heal`."""
        self._is_refusing = True
        self.cut()

    def swallow(self) -> None:
        """Take everything and pass nothing on, until `heal`."""
        self._flows.clear()

    def heal(self) -> None:
        """Pass everything on again; what was swallowed comes late."""
        self.delay = 0.0
        self._is_refusing = False
        self._flows.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer), name=f"link {self.name}")
        self._pairs.add(task)
        task.add_done_callback(self._pairs.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        beyond = None
        try:
            if self._is_refusing:
                return
            back, beyond = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(beyond)
            self._upstream[beyond] = beyond.get_extra_info("sockname")[1]
            flows = [
                asyncio.create_task(self._flow(reader, beyond)),
                asyncio.create_task(self._flow(back, writer)),
            ]
            try:
                await asyncio.wait(flows, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for flow in flows:
                    flow.cancel()
                await asyncio.gather(*flows, return_exceptions=True)
        except OSError:
            pass  # the backend is away, and so is this connection then
        finally:
            for one in (writer, beyond):
                if one is not None:
                    self._writers.discard(one)
                    self._upstream.pop(one, None)
                    one.close()

    async def _flow(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK):
                if self.delay:
                    await asyncio.sleep(self.delay)
                await self._flows.wait()
                writer.write(data)
                await writer.drain()
