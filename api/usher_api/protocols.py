"""Uvicorn's HTTP protocol, with a limit on the head of a request, and with its own errors in SCIM's form."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from usher_api import answers

# Request line and headers together; a filter of the longest kind fits several times.
MAX_HEAD_BYTES = 65_536


class _Joining:
    """A transport that joins an answer's head with its body.

    Two writes are two packets, which wake a client twice. What nothing follows within the same step of the
    event loop goes alone.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write what was held and this; the first of a step is held."""
        self._parts.append(data)
        if len(self._parts) > 1:
            self._flush()
        else:
            self._loop.call_soon(self._flush)

    def close(self) -> None:
        """Write what is left, and end the connection."""
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        if self._parts:
            parts, self._parts = self._parts, []
            self._transport.write(b"".join(parts))


class ScimProtocol(HttpToolsProtocol):
    """HTTP/1.1 by httptools; a request that can't even be parsed gets a SCIM error too."""

    _reading_head = False
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin a connection; an answer goes out in one piece."""
        super().connection_made(cast(asyncio.Transport, _Joining(transport, self.loop)))

    def data_received(self, data: bytes) -> None:
        """Parse what came; a head that never ends is refused before it fills the memory."""
        super().data_received(data)
        if self._reading_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                detail = f"The request line and headers may have at most {MAX_HEAD_BYTES} bytes."
                self._refuse(431, None, detail)

    def on_message_begin(self) -> None:
        """Begin to count a request's head."""
        self._reading_head, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Stop counting: the body has a limit of its own. Let the application ask whether the client is gone.

        To ask by the ASGI messages, as Starlette does, costs as much as reading the body.
        """
        self._reading_head = False
        self.scope["usher.is_gone"] = self.transport.is_closing  # type: ignore[typeddict-unknown-key]
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP and end the connection."""
        self._refuse(400, "invalidSyntax", msg)

    def _refuse(self, status: int, scim_type: str | None, detail: str) -> None:
        body = answers.error_body(status, scim_type, detail)
        head = b"content-type: application/scim+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[status] + head % len(body) + body)
        self.transport.close()
