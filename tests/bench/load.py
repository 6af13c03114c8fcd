"""A load generator of our own: a fixed number of clients, each on one connection, one request at a time.

Run as a process of its own (`python load.py PORT CLIENTS SECONDS EVERY`, the token on standard input);
prints one JSON line. It writes requests as bytes and reads only status and length, so that it costs little
beside the server; it goes to loopback only, and it ends after SECONDS. With EVERY above zero each client
sends its next request no sooner than so many seconds after the one before.
"""

from __future__ import annotations

import asyncio
import functools
import json
import random
import sys
import time
from typing import Any, cast

import uvloop

HOST = "127.0.0.1"
BODY = (
    '{"schemas":["urn:ietf:params:scim:schemas:core:2.0:User",'
    '"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"],'
    '"userName":"%(n)s@example.com","externalId":"00u%(n)s",'
    '"name":{"givenName":"Ada","familyName":"Lovelace","formatted":"Ada Lovelace"},'
    '"displayName":"Ada Lovelace","locale":"en-US","active":true,"groups":[],"title":"Engineer",'
    '"emails":[{"primary":true,"value":"%(n)s@example.com","type":"work"}],'
    '"phoneNumbers":[{"value":"+44 20 7946 0000","type":"work"}],'
    '"urn:ietf:params:scim:schemas:extension:enterprise:2.0:User":'
    '{"employeeNumber":"%(n)s","department":"Analysis","costCenter":"4130"}}'
)


class Client(asyncio.Protocol):
    """One connection that sends its next request as soon as the answer to the last one is whole."""

    def __init__(self, head: bytes, tag: str, until: float, every: float, done: asyncio.Future[None]) -> None:
        self.head, self.tag, self.until, self.every, self.done = head, tag, until, every, done
        self.latencies: list[float] = []
        self.failures = 0
        self.sent = 0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.next()

    def next(self) -> None:
        self.sent += 1
        body = (BODY % {"n": f"{self.tag}-{self.sent}"}).encode()
        self.began = time.perf_counter()
        self.transport.write(self.head + b"%d\r\n\r\n" % len(body) + body)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        at = self.buffer.lower().find(b"content-length:", 0, end)
        length = int(self.buffer[at + 15 : self.buffer.index(b"\r\n", at)])
        if len(self.buffer) < end + 4 + length:
            return
        now = time.perf_counter()
        self.latencies.append(now - self.began)
        if not self.buffer.startswith(b"HTTP/1.1 201"):
            self.failures += 1
        self.buffer = b""
        pause = self.began + self.every - now
        if now + max(pause, 0.0) < self.until:
            if pause > 0:
                asyncio.get_running_loop().call_later(pause, self.next)
            else:
                self.next()
        elif not self.done.done():
            self.done.set_result(None)
            self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))


async def run(port: int, clients: int, seconds: float, every: float, token: str) -> dict[str, Any]:
    tag = f"{random.randrange(16**10):010x}"
    head = (
        f"POST /iam/scim/v2/Users HTTP/1.1\r\nHost: {HOST}:{port}\r\nAuthorization: Bearer {token}\r\n"
        "Accept: application/scim+json\r\nContent-Type: application/scim+json; charset=utf-8\r\n"
        "Content-Length: "
    ).encode()
    loop = asyncio.get_running_loop()
    started = time.perf_counter()
    made = []
    for number in range(clients):
        done = loop.create_future()
        make = functools.partial(Client, head, f"{tag}-{number}", started + seconds, every, done)
        _, client = await loop.create_connection(make, HOST, port)
        made.append((client, done))
    await asyncio.gather(*(done for _, done in made))
    elapsed = time.perf_counter() - started
    latencies = sorted(one for client, _ in made for one in client.latencies)
    return {
        "requests": len(latencies),
        "failures": sum(client.failures for client, _ in made),
        "per_second": len(latencies) / elapsed,
        "p50_ms": latencies[len(latencies) // 2] * 1000,
        "p99_ms": latencies[int(len(latencies) * 0.99)] * 1000,
        "latencies_ms": [round(one * 1000, 3) for one in latencies] if every else [],
    }


if __name__ == "__main__":
    port, clients, seconds, every = sys.argv[1:5]
    token = sys.stdin.readline().strip()
    print(json.dumps(uvloop.run(run(int(port), int(clients), float(seconds), float(every), token))))
