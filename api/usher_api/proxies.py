"""Where a request was sent as its client knows it, scheme and host, also behind proxies.

`calls.enter` asks once for each request. Invariant: a header about the way here is believed only as far as
trusted proxies wrote it (`USHER_TRUSTED_PROXIES`), what is malformed counts as not said, and what comes out
can stand in a URL.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from starlette.types import Scope

from usher_core import errors, settings

HEADERS: Final = frozenset({"forwarded", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"})

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[[0-9A-Fa-f:.]{{2,45}}\])(:[0-9]{{1,5}})?")
_LONGEST_HOST = 260
_PORT = re.compile(r"[0-9]{1,5}")
_DEFAULT_PORTS = frozenset({80, 443})

# RFC 7239 §4, but for values without their quotes, as many proxies write `for=192.0.2.1:80`. Nothing is
# tried twice (`*+`), so that no header costs more than its length.
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]++"
_VALUE = r"[!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]++"
_QUOTED = r'"(?:[^"\\\x00-\x08\x0a-\x1f\x7f]|\\[^\x00-\x08\x0a-\x1f\x7f])*+"'
_PIECE = re.compile(rf"[ \t]*+(?:({_NAME})=({_VALUE}|{_QUOTED}))?[ \t]*+([;,]|\Z)")
_ESCAPE = re.compile(r"\\(.)")


class Origin(NamedTuple):
    """What a request was sent to; `host` is as in a Host header, and empty when there was none."""

    scheme: str
    host: str


_NOTHING = Origin("", "")


def origin(scope: Scope, headers: Mapping[str, str], trusted: settings.Networks) -> Origin:
    """Tell what the client sent its request to; `headers` by lower-case name, the first of each.

    Raises:
        InvalidSyntax: the header Host names no host.
    """
    told, port = _NOTHING, ""
    if trusted and not HEADERS.isdisjoint(headers) and _is_trusted(_peer(scope), trusted):
        forwarded = _forwarded(scope, trusted)
        told, port = (forwarded, "") if forwarded is not None else _x_forwarded(scope, trusted)
    host = told.host or headers.get("host", "")
    if host and not _is_host(host):
        raise errors.InvalidSyntax("The header Host names no host.")  # RFC 9112 §3.2
    return Origin(told.scheme or scope["scheme"], _with_port(host, port))


def _peer(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _is_trusted(node: str, trusted: settings.Networks) -> bool:
    """Tell whether a peer, or what a proxy says of its own, is a trusted proxy; names and words are none."""
    if node.startswith("["):
        node = node[1:].partition("]")[0]
    elif node.count(":") == 1:
        node = node.partition(":")[0]
    try:
        address = ipaddress.ip_address(node)
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped  # a socket that listens for both families shows IPv4 so
    return any(address in network for network in trusted)


def _believed(clients: Sequence[str], trusted: settings.Networks) -> int:
    """Count the hops that are believed, from the last: each was written by the proxy that the next one names.

    The last one was written by the peer itself, which is trusted.
    """
    count = 1
    while count < len(clients) and _is_trusted(clients[-count], trusted):
        count += 1
    return count


def _forwarded(scope: Scope, trusted: settings.Networks) -> Origin | None:
    """Read Forwarded (RFC 7239); `None` when it is not there or malformed."""
    hops = _hops(", ".join(_lines(scope, b"forwarded")))
    if not hops:
        return None
    believed = hops[-_believed([hop.get("for", "") for hop in hops], trusted) :]
    # The outermost trusted proxy knows best; one further in speaks where it is silent.
    scheme = next((one for hop in believed if (one := _scheme(hop.get("proto", "")))), "")
    host = next((one for hop in believed if _is_host(one := hop.get("host", ""))), "")
    return Origin(scheme, host)


def _hops(text: str) -> list[dict[str, str]] | None:
    hops: list[dict[str, str]] = [{}]
    at, end = 0, ";"
    while end:
        piece = _PIECE.match(text, at)
        if piece is None:
            return None
        name, value, end = piece.groups()
        if name is not None:
            if name.lower() in hops[-1]:
                return None  # RFC 7239 §4: once in an element
            quoted = value.startswith('"')
            hops[-1][name.lower()] = _ESCAPE.sub(r"\1", value[1:-1]) if quoted else value
        if end == ",":
            hops.append({})
        at = piece.end()
    return [hop for hop in hops if hop]


def _x_forwarded(scope: Scope, trusted: settings.Networks) -> tuple[Origin, str]:
    """Read X-Forwarded-Proto, -Host and -Port, as far as -For shows that trusted proxies wrote them."""
    clients = _listed(scope, b"x-forwarded-for")
    believed = _believed(clients, trusted)

    def told(name: bytes) -> str:
        values = _listed(scope, name)
        if len(values) == len(clients):
            return values[-believed] if values else ""
        # Not each proxy added one: only the last is surely no client's.
        return values[-1] if values else ""

    host = told(b"x-forwarded-host")
    scheme = _scheme(told(b"x-forwarded-proto"))
    return Origin(scheme, host if _is_host(host) else ""), told(b"x-forwarded-port")


def _lines(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for header, value in scope["headers"] if header == name]


def _listed(scope: Scope, name: bytes) -> list[str]:
    return [item for line in _lines(scope, name) for one in line.split(",") if (item := one.strip())]


def _scheme(text: str) -> str:
    lowered = text.lower()
    return lowered if lowered in ("http", "https") else ""


def _is_host(text: str) -> bool:
    found = _HOST.fullmatch(text) if len(text) <= _LONGEST_HOST else None
    return found is not None and (found[1] is None or 0 < int(found[1][1:]) < 65_536)


def _with_port(host: str, port: str) -> str:
    """Add the port that a proxy was reached at where it is not the scheme's own and the host names none."""
    if not port or not host or _PORT.fullmatch(port) is None:
        return host
    # 80 with https, and 443 with http, is the port of a proxy behind the one that ends TLS.
    is_shown = 0 < int(port) < 65_536 and int(port) not in _DEFAULT_PORTS
    found = _HOST.fullmatch(host)
    return f"{host}:{int(port)}" if is_shown and found is not None and found[1] is None else host
