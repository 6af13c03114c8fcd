"""Uvicorn's HTTP protocol, with the errors that it answers by itself in the form of SCIM."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from usher_api import answers


class ScimProtocol(HttpToolsProtocol):
    """HTTP/1.1 by httptools; a request that can't even be parsed gets a SCIM error too."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP and end the connection."""
        body = answers.error_body(400, "invalidSyntax", msg)
        head = b"content-type: application/scim+json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
        self.transport.write(STATUS_LINE[400] + head % len(body) + body)
        self.transport.close()
