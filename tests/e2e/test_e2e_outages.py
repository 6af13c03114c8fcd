"""The way to the API server is cut, silent or slow: the operator goes on by itself, without a restart.

Nobody here starts an operator that has ended: a tenant that becomes ready was served by the one that was
there before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from clusters import Cluster
    from lines import Line
    from releases import Release

# Shorter than the operator's lease takes to be lost.
SHORT = 5.0


def tenant(namespace: str, name: str) -> dict[str, Any]:
    return {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "tokens": [{"name": "okta", "secretRef": {"name": f"{name}-okta"}}],
            "sso": {"mode": "Optional"},
        },
    }


def ready(cluster: Cluster, namespace: str, name: str, patience: int) -> None:
    words = ("wait", "--for=condition=Ready", f"scimtenant/{name}", "-n", namespace)
    cluster.kubectl(*words, f"--timeout={patience}s")


def unserved(cluster: Cluster, namespace: str, name: str) -> bool:
    return "status" not in (cluster.get(namespace, "scimtenant", name) or {})


def test_watches_that_were_cut_are_opened_anew(cluster: Cluster, line: Line, namespace: str) -> None:
    for number in range(3):
        line.cut()
        cluster.apply([tenant(namespace, f"tenant-{number}")])
        ready(cluster, namespace, f"tenant-{number}", 20)


@pytest.mark.parametrize("fault", ["refuse", "swallow"])
def test_what_was_applied_while_the_api_server_was_away_is_served(
    cluster: Cluster, line: Line, release: Release, namespace: str, fault: str
) -> None:
    cluster.apply([tenant(namespace, "acme")])
    ready(cluster, namespace, "acme", 60)
    break_off: Callable[[], None] = getattr(line, fault)
    break_off()
    cluster.apply([tenant(namespace, "globex")])
    cluster.kubectl("delete", "scimtenant", "acme", "-n", namespace, "--wait=false")
    time.sleep(SHORT)
    assert unserved(cluster, namespace, "globex")
    assert cluster.get(namespace, "secret", "acme-okta") is not None
    line.heal()
    ready(cluster, namespace, "globex", 30)
    cluster.kubectl("wait", "--for=delete", "scimtenant/acme", "-n", namespace, "--timeout=30s")
    cluster.until(lambda: cluster.names(namespace, "secrets") == {"globex-okta"}, "its Secret is gone")


def test_a_slow_api_server_is_waited_for(cluster: Cluster, line: Line, namespace: str) -> None:
    line.slow_down(0.4)
    cluster.apply([tenant(namespace, f"tenant-{number}") for number in range(3)])
    for number in range(3):
        ready(cluster, namespace, f"tenant-{number}", 60)
    assert len(cluster.names(namespace, "secrets")) == 3


@pytest.mark.full
def test_a_watch_that_lost_its_peer_without_a_word_is_opened_anew(
    cluster: Cluster, line: Line, namespace: str
) -> None:
    cluster.apply([tenant(namespace, "acme")])
    ready(cluster, namespace, "acme", 60)
    line.strand()
    cluster.apply([tenant(namespace, "globex")])
    # A watch that works has something to say once a minute.
    ready(cluster, namespace, "globex", 100)


@pytest.mark.full
@pytest.mark.parametrize("fault", ["refuse", "swallow"])
def test_an_api_server_that_was_away_for_a_minute_is_waited_for(
    cluster: Cluster, line: Line, namespace: str, fault: str
) -> None:
    cluster.apply([tenant(namespace, "acme")])
    ready(cluster, namespace, "acme", 60)
    break_off: Callable[[], None] = getattr(line, fault)
    break_off()
    cluster.apply([tenant(namespace, "globex")])
    time.sleep(60)
    line.heal()
    ready(cluster, namespace, "globex", 60)
