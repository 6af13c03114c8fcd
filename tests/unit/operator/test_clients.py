"""The way to the API server goes by the proxy that the environment names, and by no .netrc."""

from __future__ import annotations

import pytest

from usher_operator import clients

SERVER = "https://api.example.com:6443"
PROXY = "http://proxy.example.com:3128"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


def test_without_a_proxy_the_way_is_direct() -> None:
    assert clients.proxy_of(SERVER) is None


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    assert clients.proxy_of(SERVER) == PROXY


@pytest.mark.parametrize("exempted", ["api.example.com", ".example.com", "*"])
def test_but_not_to_what_is_exempted(monkeypatch: pytest.MonkeyPatch, exempted: str) -> None:
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", exempted)
    assert clients.proxy_of(SERVER) is None
