"""An address is read as people write it, and its port is settled before anything listens."""

from __future__ import annotations

import re
import socket

import pytest

from usher_core import errors
from usher_core.dev import addresses
from usher_core.dev.addresses import Address


@pytest.mark.parametrize(
    ("text", "read"),
    [
        pytest.param("127.0.0.1:8080", Address("127.0.0.1", 8080), id="IPv4"),
        pytest.param("localhost:0", Address("localhost", 0), id="a name"),
        pytest.param("[::1]:65535", Address("::1", 65535), id="IPv6"),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, read: Address) -> None:
    assert addresses.parse(text) == read
    assert str(read) == text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("8080", id="no host"),
        pytest.param(":8080", id="an empty host"),
        pytest.param("127.0.0.1", id="no port"),
        pytest.param("127.0.0.1:", id="an empty port"),
        pytest.param("127.0.0.1:http", id="a named port"),
        pytest.param("127.0.0.1:65536", id="a port out of range"),
        pytest.param("127.0.0.1:-1", id="a negative port"),
        pytest.param("127.0.0.1:²", id="a digit that is none"),
        pytest.param("::1:8080", id="IPv6 without brackets"),
    ],
)
def test_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(errors.ConfigurationInvalid, match=re.escape(f"--listen {text}: must be HOST:PORT")):
        addresses.parse(text)


def test_port_0_becomes_a_free_one_and_another_stays() -> None:
    settled = addresses.settle(Address("127.0.0.1", 0))
    assert settled.port > 0
    assert addresses.settle(settled) == settled


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_is_taken_is_told(host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(errors.ConfigurationInvalid, match=f"can't listen on {host}:{port}"):
            addresses.settle(Address(host, port))


@pytest.mark.parametrize(
    ("listening", "reachable"),
    [
        pytest.param("0.0.0.0:80", "127.0.0.1:80", id="every IPv4 interface"),
        pytest.param("[::]:80", "[::1]:80", id="every interface"),
        pytest.param("10.0.0.1:80", "10.0.0.1:80", id="one interface"),
    ],
)
def test_a_client_is_sent_where_it_can_go(listening: str, reachable: str) -> None:
    assert str(addresses.reachable(addresses.parse(listening))) == reachable
