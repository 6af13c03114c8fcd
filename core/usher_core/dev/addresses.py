"""The address on which the api of `usher dev` listens: read, chosen, and turned into a URL.

The port is settled before the api starts, so an api that is started again comes back where it was.
"""

from __future__ import annotations

from dataclasses import dataclass

from usher_core import errors
from usher_core.embedded import ports


@dataclass(frozen=True)
class Address:
    """A host and a port; port 0 stands for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse(text: str) -> Address:
    """Read HOST:PORT; an IPv6 host stands in brackets.

    Raises:
        ConfigurationInvalid: it has another form, or the port is out of range.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    # isascii: isdigit alone takes the digits of every script, and more than digits.
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise errors.ConfigurationInvalid(f"--listen {text}: must be HOST:PORT, such as 127.0.0.1:8080")
    return Address(host, int(port))


def settle(wanted: Address) -> Address:
    """Choose the port where 0 was asked for, else see that the port is free.

    Raises:
        ConfigurationInvalid: it is taken, or the host is not this machine's.
    """
    if wanted.port == 0:
        for port in ports.candidates(wanted.host):
            return Address(wanted.host, port)
    elif ports.is_free(wanted.port, wanted.host):
        return wanted
    raise errors.ConfigurationInvalid(
        f"can't listen on {wanted}: the port is taken, or the host is not this machine's;"
        " choose another with --listen HOST:PORT (port 0 takes a free one)"
    )


def reachable(listening: Address) -> Address:
    """Answer where a client on this machine connects to: nobody can connect to "every interface"."""
    every = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared with, not listened on
    return Address(every.get(listening.host, listening.host), listening.port)
