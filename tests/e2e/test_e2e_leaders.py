"""Two operators of one release on a real API server: one works, and the other takes over when it must."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
import scimtenants
from releases import health

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

TAKEOVER = 20.0  # seconds, by the promise of the chart's values


def leads(port: int) -> bool:
    return (health(port) or {}).get("leads") is True


@pytest.mark.parametrize("dies", [True, False], ids=["killed", "stopped"])
def test_a_standby_takes_over_and_no_token_changes(
    cluster: Cluster, operator: Release, namespace: str, dies: bool
) -> None:
    operator.stop()
    first, first_port = operator.launch()
    second, second_port = None, 0
    try:
        cluster.until(lambda: leads(first_port), "the first one works", patience=TAKEOVER)
        cluster.apply([scimtenants.manifest(namespace, "acme")])
        scimtenants.wait(cluster, namespace, "acme")
        secret = cluster.get(namespace, "secret", "acme-okta")
        second, second_port = operator.launch()
        time.sleep(3)
        assert not leads(second_port)
        began = time.monotonic()
        if dies:
            first.kill()
        else:
            first.stop()
        cluster.apply([scimtenants.manifest(namespace, "globex")])
        scimtenants.wait(cluster, namespace, "globex")
        took = time.monotonic() - began
        assert leads(second_port)
        # Who ends well gives the lease back: nobody waits until its time is over.
        assert took < (TAKEOVER if dies else 8)
        assert cluster.get(namespace, "secret", "acme-okta") == secret
    finally:
        for process in (first, second):
            if process is not None:
                process.stop()
