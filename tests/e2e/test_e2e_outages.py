"""The way to the API server is cut, silent or slow: the operator goes on by itself, without a restart.

Nobody here starts an operator that has ended: a tenant that becomes ready was served by the one that was
there before.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
import scimtenants

if TYPE_CHECKING:
    from clusters import Cluster
    from lines import Line
    from releases import Release

# Shorter than the operator's lease takes to be lost.
SHORT = 5.0


def unserved(cluster: Cluster, namespace: str, name: str) -> bool:
    return "status" not in (cluster.get(namespace, "scimtenant", name) or {})


def test_watches_that_were_cut_are_opened_anew(cluster: Cluster, line: Line, namespace: str) -> None:
    for number in range(3):
        line.cut()
        cluster.apply([scimtenants.manifest(namespace, f"tenant-{number}")])
        scimtenants.wait(cluster, namespace, f"tenant-{number}", patience=20)


@pytest.mark.parametrize("fault", ["refuse", "swallow"])
def test_what_was_applied_while_the_api_server_was_away_is_served(
    cluster: Cluster, line: Line, release: Release, namespace: str, fault: str
) -> None:
    cluster.apply([scimtenants.manifest(namespace, "acme")])
    scimtenants.wait(cluster, namespace, "acme")
    break_off: Callable[[], None] = getattr(line, fault)
    break_off()
    cluster.apply([scimtenants.manifest(namespace, "globex")])
    cluster.kubectl("delete", "scimtenant", "acme", "-n", namespace, "--wait=false")
    time.sleep(SHORT)
    assert unserved(cluster, namespace, "globex")
    assert cluster.get(namespace, "secret", "acme-okta") is not None
    line.heal()
    scimtenants.wait(cluster, namespace, "globex", patience=30)
    cluster.kubectl("wait", "--for=delete", "scimtenant/acme", "-n", namespace, "--timeout=30s")
    cluster.until(lambda: cluster.names(namespace, "secrets") == {"globex-okta"}, "its Secret is gone")


def test_a_slow_api_server_is_waited_for(cluster: Cluster, line: Line, namespace: str) -> None:
    line.slow_down(0.4)
    cluster.apply([scimtenants.manifest(namespace, f"tenant-{number}") for number in range(3)])
    for number in range(3):
        scimtenants.wait(cluster, namespace, f"tenant-{number}")
    assert len(cluster.names(namespace, "secrets")) == 3


@pytest.mark.full
def test_a_watch_that_lost_its_peer_without_a_word_is_opened_anew(
    cluster: Cluster, line: Line, namespace: str
) -> None:
    cluster.apply([scimtenants.manifest(namespace, "acme")])
    scimtenants.wait(cluster, namespace, "acme")
    line.strand()
    cluster.apply([scimtenants.manifest(namespace, "globex")])
    # A watch that works has something to say once a minute.
    scimtenants.wait(cluster, namespace, "globex", patience=100)


@pytest.mark.full
@pytest.mark.parametrize("fault", ["refuse", "swallow"])
def test_an_api_server_that_was_away_for_a_minute_is_waited_for(
    cluster: Cluster, line: Line, namespace: str, fault: str
) -> None:
    cluster.apply([scimtenants.manifest(namespace, "acme")])
    scimtenants.wait(cluster, namespace, "acme")
    break_off: Callable[[], None] = getattr(line, fault)
    break_off()
    cluster.apply([scimtenants.manifest(namespace, "globex")])
    time.sleep(60)
    line.heal()
    scimtenants.wait(cluster, namespace, "globex")
