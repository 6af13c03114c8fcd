"""What a spec takes away ends at once: a token, the service, a host; what it gives again comes back."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import scimtenants

from usher_core.testing import stacks

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

KEYS = {key: {"name": key, "secretRef": {"name": "acme-tokens", "key": key}} for key in ("okta", "entra")}
BELIEVED = 1.0
"""Seconds for which an api process believes what it knows of a token, by the promise to administrators."""


def answered(stack: stacks.Stack, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{stack.base_url}/Users", headers=headers, timeout=40).status_code


def test_a_token_that_the_spec_no_longer_gives_is_refused_and_the_other_one_works(
    cluster: Cluster, operator: Release, namespace: str, stack: stacks.Stack
) -> None:
    cluster.apply([scimtenants.manifest(namespace, "acme", *KEYS.values())])
    scimtenants.wait(cluster, namespace, "acme")
    kept, gone = (scimtenants.token(cluster, namespace, "acme-tokens", key) for key in KEYS)
    # Each process has seen both.
    assert {answered(stack, token) for token in (kept, gone) * 8} == {200}
    cluster.apply([scimtenants.manifest(namespace, "acme", KEYS["okta"])])
    scimtenants.wait(cluster, namespace, "acme", what="jsonpath={.status.observedGeneration}=2")
    time.sleep(BELIEVED)
    assert {answered(stack, gone) for _ in range(8)} == {401}
    assert {answered(stack, kept) for _ in range(8)} == {200}
    secret = cluster.get(namespace, "secret", "acme-tokens")
    assert secret is not None
    assert "entra" not in secret["data"]


def test_a_suspended_tenant_is_served_again_when_it_no_longer_is(
    cluster: Cluster, operator: Release, namespace: str, stack: stacks.Stack
) -> None:
    cluster.apply([scimtenants.manifest(namespace, "acme")])
    scimtenants.wait(cluster, namespace, "acme")
    token = scimtenants.token(cluster, namespace, "acme-okta")
    for suspend, ready, status in ((True, "False", 403), (False, "True", 200)):
        patch = json.dumps({"spec": {"suspend": suspend}})
        cluster.kubectl("patch", "scimtenant", "acme", "-n", namespace, "--type=merge", f"--patch={patch}")
        scimtenants.wait(cluster, namespace, "acme", what=f"condition=Ready={ready}")
        time.sleep(BELIEVED)
        assert answered(stack, token) == status
    assert scimtenants.token(cluster, namespace, "acme-okta") == token


def test_a_host_is_of_who_had_it_first_and_of_the_next_one_when_that_goes(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    endpoint = {"host": f"{namespace}.example.com"}
    cluster.apply([scimtenants.manifest(namespace, "acme", endpoint=endpoint)])
    scimtenants.wait(cluster, namespace, "acme")
    cluster.apply([scimtenants.manifest(namespace, "globex", endpoint=endpoint)])
    scimtenants.wait(cluster, namespace, "globex", what="condition=Conflict")
    found = cluster.get(namespace, "scimtenant", "globex")
    assert found is not None
    assert "url" not in found["status"].get("endpoint", {})
    events = cluster.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}").split()
    assert "HostTaken" in events
    cluster.kubectl("delete", "scimtenant", "acme", "-n", namespace, "--timeout=60s")
    scimtenants.wait(cluster, namespace, "globex", what="condition=Conflict=False")
    scimtenants.wait(cluster, namespace, "globex")
