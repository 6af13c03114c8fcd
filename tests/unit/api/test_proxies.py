"""Of the way that a request came trusted proxies are believed all that they say, and others nothing."""

from __future__ import annotations

import ipaddress
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher_api import proxies
from usher_core import errors, settings

NOBODY: settings.Networks = ()
TRUSTED: settings.Networks = (
    ipaddress.ip_network("10.0.0.0/8"),
    ipaddress.ip_network("192.0.2.7"),
    ipaddress.ip_network("2001:db8:ffff::/48"),
)
PEER = "10.0.0.1"
OWN = ("http", "inside:8080")


def ask(
    *lines: tuple[str, str], peer: str | None = PEER, trusted: settings.Networks = TRUSTED, host: str = OWN[1]
) -> tuple[str, str]:
    listed = [("host", host), *((name.lower(), value) for name, value in lines)] if host else list(lines)
    scope: dict[str, Any] = {
        "scheme": "http",
        "client": None if peer is None else (peer, 4711),
        "headers": [(name.encode(), value.encode("latin-1")) for name, value in listed],
    }
    headers = dict(reversed(listed))
    return tuple(proxies.origin(scope, headers, trusted))


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        pytest.param("for=192.0.2.60;proto=https;host=scim.io", ("https", "scim.io"), id="all"),
        pytest.param("proto=https", ("https", OWN[1]), id="the scheme alone"),
        pytest.param("host=scim.io", ("http", "scim.io"), id="the host alone"),
        pytest.param("for=1.2.3.4;by=10.0.0.1", OWN, id="neither"),
        pytest.param('Host="scim.io:8443";PROTO=HTTPS', ("https", "scim.io:8443"), id="quoted"),
        pytest.param(r'proto="ht\tps";host="sc\im\.io"', ("https", "scim.io"), id="escapes"),
        pytest.param('host="[2001:db8::1]:8443"', ("http", "[2001:db8::1]:8443"), id="an IPv6 host"),
        pytest.param("host=scim.io:8443", ("http", "scim.io:8443"), id="its quotes left out"),
        pytest.param(" proto=https ; host=a.io ,", ("https", "a.io"), id="spaces and an empty hop"),
        pytest.param("secret=x;proto=https", ("https", OWN[1]), id="a parameter of somebody's own"),
        # Several hops: the last is the peer's word, the one before it that of who connected to the peer.
        pytest.param("for=6.6.6.6;host=evil.io, for=1.2.3.4;host=a.io", ("http", "a.io"),
                     id="a hop by who is not trusted"),
        pytest.param("for=1.2.3.4;host=a.io;proto=https, for=10.9.9.9;host=b.io", ("https", "a.io"),
                     id="two trusted hops"),
        pytest.param("for=6.6.6.6;host=evil.io, for=1.2.3.4;host=a.io, for=10.9.9.9;host=b.io",
                     ("http", "a.io"), id="two of three"),
        pytest.param('for=1.2.3.4;host=a.io, for="[2001:db8:ffff::2]:80";host=b.io', ("http", "a.io"),
                     id="a trusted hop over IPv6"),
        pytest.param('for=6.6.6.6;host=evil.io, for="[2001:db8::2]";host=b.io', ("http", "b.io"),
                     id="another one over IPv6"),
        pytest.param('for=1.2.3.4;host=a.io, for="10.9.9.9:_port";host=b.io', ("http", "a.io"),
                     id="an obfuscated port"),
        pytest.param("for=6.6.6.6;host=evil.io, for=_hidden;host=b.io", ("http", "b.io"),
                     id="an obfuscated address is nobody's"),
        pytest.param("for=6.6.6.6;host=evil.io, for=unknown;proto=https", ("https", OWN[1]),
                     id="an unknown address is nobody's"),
        pytest.param("for=6.6.6.6;host=evil.io, proto=https", ("https", OWN[1]), id="no address at all"),
        pytest.param("for=1.2.3.4;host=a.io, for=10.9.9.9;host=b.io;proto=https", ("https", "a.io"),
                     id="what the outer one leaves out the inner one tells"),
        # What is malformed is not there.
        pytest.param("proto=https;proto=http", OWN, id="said twice"),
        pytest.param('proto="https', OWN, id="a quote without an end"),
        pytest.param("proto = https", OWN, id="a space too many"),
        pytest.param("proto=https host=a.io", OWN, id="no semicolon"),
        pytest.param("proto=", OWN, id="no value"),
        pytest.param("https", OWN, id="no name"),
        pytest.param("", OWN, id="empty"),
        pytest.param("proto=https;b\xe4d=1", OWN, id="odd bytes"),
        # What could not stand in a URL is not said.
        pytest.param("proto=gopher;host=a.io", ("http", "a.io"), id="another scheme"),
        pytest.param('host="a.io/evil"', OWN, id="a path"),
        pytest.param('host="user@a.io"', OWN, id="a user"),
        pytest.param(r'host="a.io\"x"', OWN, id="a quote in the host"),
        pytest.param('host="a.io:99999"', OWN, id="a port that is none"),
        pytest.param('host="a b"', OWN, id="a space in the host"),
        pytest.param(f'host="{"a." * 200}example"', OWN, id="an endless host"),
        pytest.param('for=1.2.3.4;host="a/b", for=10.9.9.9;host=b.io', ("http", "b.io"),
                     id="a hop that says nonsense is silent"),
    ],
)  # fmt: skip
def test_forwarded_is_read_as_far_as_it_is_trusted(value: str, wanted: tuple[str, str]) -> None:
    assert ask((FORWARDED, value)) == wanted


FORWARDED = "Forwarded"
FOR, PROTO, HOST, PORT = (f"X-Forwarded-{name}" for name in ("For", "Proto", "Host", "Port"))


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        pytest.param([(PROTO, "https"), (HOST, "a.io")], ("https", "a.io"), id="scheme and host"),
        pytest.param([(PROTO, "HTTPS")], ("https", OWN[1]), id="the scheme alone"),
        pytest.param([(PROTO, "https"), (HOST, "a.io"), (PORT, "8443")], ("https", "a.io:8443"), id="port"),
        pytest.param([(PROTO, "https"), (HOST, "a.io"), (PORT, "443")], ("https", "a.io"), id="443"),
        pytest.param([(PROTO, "https"), (HOST, "a.io"), (PORT, "80")], ("https", "a.io"),
                     id="the port of a proxy behind the one that ends TLS"),
        pytest.param([(HOST, "a.io:81"), (PORT, "8443")], ("http", "a.io:81"), id="the host's own port"),
        pytest.param([(HOST, "a.io"), (PORT, "x")], ("http", "a.io"), id="no port"),
        pytest.param([(PROTO, "https"), (FOR, "1.2.3.4")], ("https", OWN[1]), id="with the client"),
        pytest.param([(FOR, "6.6.6.6, 1.2.3.4"), (HOST, "evil.io, a.io")], ("http", "a.io"),
                     id="a list that the client began"),
        pytest.param([(FOR, "1.2.3.4, 10.9.9.9"), (HOST, "a.io, b.io")], ("http", "a.io"),
                     id="a list of two trusted proxies"),
        pytest.param([(FOR, "6.6.6.6, 1.2.3.4, 10.9.9.9"), (HOST, "evil.io, a.io, b.io")],
                     ("http", "a.io"), id="two of three"),
        pytest.param([(FOR, "1.2.3.4, 10.9.9.9"), (HOST, "a.io")], ("http", "a.io"),
                     id="only one proxy names the host"),
        pytest.param([(FOR, "1.2.3.4"), (HOST, "evil.io, a.io")], ("http", "a.io"),
                     id="more hosts than hops"),
        pytest.param([(FOR, "6.6.6.6"), (FOR, "1.2.3.4"), (HOST, "evil.io"), (HOST, "a.io")],
                     ("http", "a.io"), id="in several lines"),
        pytest.param([(FOR, "1.2.3.4:5678, 10.9.9.9:5678"), (PROTO, "https, http")], ("https", OWN[1]),
                     id="addresses with ports"),
        pytest.param([(FOR, "1.2.3.4, 2001:db8:ffff::1"), (PROTO, "https, a")], ("https", OWN[1]), id="IPv6"),
        pytest.param([(FOR, "nonsense, unknown"), (PROTO, "https, http")], OWN, id="names are nobody's"),
        pytest.param([(PROTO, "gopher"), (HOST, "a.io/x")], OWN, id="what is no URL's"),
        pytest.param([(HOST, "a.io"), ("X-Forwarded-Prefix", "/x")], ("http", "a.io"), id="prefix"),
        pytest.param([(FORWARDED, "proto=https"), (HOST, "a.io")], ("https", OWN[1]), id="the first"),
        pytest.param([(FORWARDED, "proto=https;"), (PROTO, "http")], ("https", OWN[1]), id="semicolon"),
        pytest.param([(FORWARDED, 'proto="'), (HOST, "a.io")], ("http", "a.io"),
                     id="a malformed Forwarded is none"),
        pytest.param([(FORWARDED, "for=6.6.6.6;host=evil.io"), (FORWARDED, "for=1.2.3.4;host=a.io")],
                     ("http", "a.io"), id="Forwarded in several lines"),
    ],
)  # fmt: skip
def test_x_forwarded_is_read_where_there_is_no_forwarded(
    lines: list[tuple[str, str]], wanted: tuple[str, str]
) -> None:
    assert ask(*lines) == wanted


SAID = [(FORWARDED, "proto=https;host=evil.io"), (PROTO, "https"), (HOST, "evil.io"), (PORT, "1")]


@pytest.mark.parametrize(
    ("peer", "trusted", "believed"),
    [
        pytest.param("10.255.0.1", TRUSTED, True, id="in a network"),
        pytest.param("192.0.2.7", TRUSTED, True, id="a single address"),
        pytest.param("::ffff:10.0.0.1", TRUSTED, True, id="IPv4 as IPv6 shows it"),
        pytest.param("2001:db8:ffff::9", TRUSTED, True, id="IPv6"),
        pytest.param("192.0.2.8", TRUSTED, False, id="beside a single address"),
        pytest.param("11.0.0.1", TRUSTED, False, id="beside a network"),
        pytest.param("10.0.0.1", NOBODY, False, id="where nobody is trusted"),
        pytest.param(None, TRUSTED, False, id="of no address"),
        pytest.param("", TRUSTED, False, id="of an empty address"),
    ],
)
def test_only_a_trusted_peer_is_believed(
    peer: str | None, trusted: settings.Networks, believed: bool
) -> None:
    assert (ask(*SAID, peer=peer, trusted=trusted) != OWN) is believed


@pytest.mark.parametrize("host", ["a/b", "a b", "a@b", "a, b@[::", '"', "a:99999", "a:0", "[::1", "a..b"])
def test_a_host_that_is_none_is_refused_and_not_repeated(host: str) -> None:
    with pytest.raises(errors.InvalidSyntax, match="Host") as refused:
        ask(host=host, trusted=NOBODY)
    assert refused.value.detail == "The header Host names no host."


@pytest.mark.parametrize("host", ["a", "A.example.com.", "my_proxy:8080", "127.0.0.1", "[::1]:8000", ""])
def test_a_host_is_taken_as_it_stands(host: str) -> None:
    assert ask(host=host, trusted=NOBODY) == ("http", host)


@pytest.mark.parametrize(
    "value", [" " * 60_000 + "!", "a" * 60_000, 'host="' + "a" * 60_000, "a=" * 30_000, "," * 60_000]
)
def test_no_header_costs_more_than_its_length(value: str) -> None:
    started = time.perf_counter()
    ask((FORWARDED, value), (FOR, value), (HOST, value))
    assert time.perf_counter() - started < 0.5


pieces = st.sampled_from(
    [
        "for=",
        "host=",
        "proto=",
        "https",
        "a.io",
        "10.0.0.1",
        "[::1]",
        '"',
        "\\",
        ";",
        ",",
        " ",
        "/",
        "@",
        ":1",
    ]
)


@given(st.lists(pieces, max_size=12).map("".join), st.lists(pieces, max_size=8).map("".join))
def test_whatever_is_said_makes_a_url(forwarded: str, host: str) -> None:
    scheme, said = ask((FORWARDED, forwarded), (HOST, host), (FOR, forwarded), (PORT, host))
    assert scheme in ("http", "https")
    assert not set(said) - set("abcdefghijklmnopqrstuvwxyz0123456789.:[]-_")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("USHER_DATABASE_URL", "postgresql://x/y")
    monkeypatch.setenv("USHER_REDIS_URL", "redis://x")
    return monkeypatch


@pytest.mark.parametrize(
    ("value", "networks"),
    [
        pytest.param(None, (), id="unset"),
        pytest.param("", (), id="empty"),
        pytest.param("10.0.0.0/8", ("10.0.0.0/8",), id="a network"),
        pytest.param(" 10.0.0.0/8,192.0.2.7 , ::1,", ("10.0.0.0/8", "192.0.2.7/32", "::1/128"), id="several"),
        pytest.param("0.0.0.0/0,::/0", ("0.0.0.0/0", "::/0"), id="everybody, on purpose"),
    ],
)
def test_trusted_proxies_are_set_by_address(
    environment: pytest.MonkeyPatch, value: str | None, networks: tuple[str, ...]
) -> None:
    if value is not None:
        environment.setenv("USHER_TRUSTED_PROXIES", value)
    assert tuple(map(str, settings.load().trusted_proxies)) == networks


@pytest.mark.parametrize(
    "value", ["*", "true", "proxy.internal", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0;::1"]
)
def test_what_is_no_address_is_refused_at_start_by_name(environment: pytest.MonkeyPatch, value: str) -> None:
    environment.setenv("USHER_TRUSTED_PROXIES", value)
    with pytest.raises(
        errors.ConfigurationInvalid, match=r"USHER_TRUSTED_PROXIES: .*10\.0\.0\.0/8"
    ) as refused:
        settings.load()
    assert value == "*" or value not in str(refused.value)
