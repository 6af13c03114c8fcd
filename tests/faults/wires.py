"""One connection of a client, by hand: what is sent is sent once, and a lost answer is told as lost.

The usual clients repeat a request on a connection that died; here each attempt must be known. Only what our
own api answers is understood: HTTP/1.1 with Content-Length.
"""

from __future__ import annotations

import asyncio
import dataclasses

from messages import Request


class NoAnswer(Exception):
    """Nobody knows what became of the request; says why."""


class NotSent(NoAnswer):
    """Nobody listens: not a byte of the request was sent."""


@dataclasses.dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class Wire:
    """A connection to a port of loopback, made when it is needed."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def send(self, request: Request, token: str, request_id: str, patience: float) -> Answer:
        """Send a request and read its answer; hang up when it takes longer than `patience`, in seconds.

        Raises:
            NotSent: nobody listens.
            NoAnswer: it did not come.
        """
        try:
            async with asyncio.timeout(patience):
                return await self._exchange(self._head(request, token, request_id) + request.body)
        except NotSent:
            raise
        except TimeoutError:
            raise NoAnswer("hung up") from None
        except (OSError, EOFError, ValueError, asyncio.LimitOverrunError) as exc:
            raise NoAnswer(type(exc).__name__) from exc
        except BaseException:
            self.close()
            raise
        finally:
            if self._streams is not None and self._streams[0].at_eof():
                self.close()

    def _head(self, request: Request, token: str, request_id: str) -> bytes:
        lines = [
            f"{request.method} {request.path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {token}",
            f"X-Request-Id: {request_id}",
            f"Content-Length: {len(request.body)}",
            *(f"{name}: {value}" for name, value in request.headers),
        ]
        if request.body:
            lines.append("Content-Type: application/scim+json")
        return "\r\n".join([*lines, "", ""]).encode()

    async def _exchange(self, data: bytes) -> Answer:
        if self._streams is None:
            try:
                self._streams = await asyncio.open_connection("127.0.0.1", self.port)
            except ConnectionRefusedError as exc:
                raise NotSent("refused") from exc
        reader, writer = self._streams
        # Whatever happens before the answer is whole, this connection is of no more use.
        self._streams = None
        try:
            writer.write(data)
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in lines if line)
            headers = {name.lower(): value.strip() for name, _, value in pairs}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
        except BaseException:
            writer.close()
            raise
        self._streams = reader, writer
        return Answer(int(first.split(" ")[1]), headers, body)
