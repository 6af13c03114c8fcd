"""An HTTP client that costs little beside what is measured: one connection, one request at a time."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import orjson

from usher_core.testing import stacks


class Client:
    """One connection to a tenant's endpoints, on loopback."""

    def __init__(self, access: stacks.Access) -> None:
        url = urlsplit(access.base_url)
        assert url.hostname == "127.0.0.1", "load goes to loopback only"
        self._host, self._port, self._base = url.hostname, url.port, url.path
        self._head = "".join(f"{name}: {value}\r\n" for name, value in access.headers.items())

    async def __aenter__(self) -> Client:
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    async def request(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send a request and return the status and the body of its answer."""
        data = b"" if body is None else orjson.dumps(body)
        target = (self._base + path).replace(" ", "%20").replace('"', "%22")
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{self._head}"
        self._writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        status_line, *lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines if line)
        answer = await self._reader.readexactly(int(headers.get("content-length", 0)))
        return int(status_line.split(" ")[1]), orjson.loads(answer) if answer else None

    async def create(self, endpoint: str, body: Any) -> str:
        """Create a resource and return its id."""
        status, shown = await self.request("POST", endpoint, body)
        assert status == 201, (status, shown)
        return str(shown["id"])
