"""Free TCP ports of the loopback interface, for servers that can't choose one themselves.

Between the look and the server's own bind another process can take the port; whoever starts a server
tries the next one then.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

# Below the ranges from which kernels take the ports of outgoing connections (Linux 32768, macOS 49152):
# a server that is started again on its port doesn't find a client's connection there.
_RANGE = range(20_000, 32_000)
_ATTEMPTS = 50


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on the port now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as tried:
        # As the servers do: connections of a former server that linger don't matter.
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((host, port))
            tried.listen()
        except OSError:
            return False
    return True


def candidates(host: str = "127.0.0.1") -> Iterator[int]:
    """Go through some ports that were free when looked at, in random order."""
    for port in random.sample(_RANGE, _ATTEMPTS):
        if is_free(port, host):
            yield port
