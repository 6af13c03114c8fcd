"""What a spec takes away ends at once: a token, the service, a host; what it gives again comes back."""

from __future__ import annotations

import base64
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from usher_core.embedded.databases import DatabaseUrls
from usher_core.testing import servers, stacks

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

BELIEVED = 1.0
"""Seconds for which an api process believes what it knows of a token, by the promise to administrators."""


def tenant(namespace: str, name: str, *tokens: str, **spec: Any) -> dict[str, Any]:
    secret = {"name": f"{name}-tokens"}
    return {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "tokens": [{"name": it, "secretRef": {**secret, "key": it}} for it in tokens or ("okta",)],
            "sso": {"mode": "Optional"},
            **spec,
        },
    }


def wait(cluster: Cluster, namespace: str, name: str, condition: str) -> None:
    words = (f"scimtenant/{name}", "-n", namespace, "--timeout=60s")
    cluster.kubectl("wait", f"--for={condition}", *words)


def token_of(cluster: Cluster, namespace: str, name: str, key: str) -> str:
    found = cluster.get(namespace, "secret", f"{name}-tokens")
    assert found is not None
    return base64.b64decode(found["data"][key]).decode()


def answered(stack: stacks.Stack, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(f"{stack.base_url}/Users", headers=headers, timeout=40).status_code


def test_a_token_that_the_spec_no_longer_gives_is_refused_and_the_other_one_works(
    cluster: Cluster,
    operator: Release,
    namespace: str,
    running: servers.Servers,
    database_urls: DatabaseUrls,
    tmp_path: Path,
) -> None:
    cluster.apply([tenant(namespace, "acme", "okta", "entra")])
    wait(cluster, namespace, "acme", "condition=Ready")
    kept, gone = (token_of(cluster, namespace, "acme", key) for key in ("okta", "entra"))
    with stacks.Stack(database_urls.app, running.redis_url, tmp_path, api_processes=2) as stack:
        # Each process has seen both.
        assert {answered(stack, token) for token in (kept, gone) * 8} == {200}
        cluster.apply([tenant(namespace, "acme", "okta")])
        wait(cluster, namespace, "acme", "jsonpath={.status.observedGeneration}=2")
        time.sleep(BELIEVED)
        assert {answered(stack, gone) for _ in range(8)} == {401}
        assert {answered(stack, kept) for _ in range(8)} == {200}
    secret = cluster.get(namespace, "secret", "acme-tokens")
    assert secret is not None
    assert "entra" not in secret["data"]


def test_a_suspended_tenant_is_served_again_when_it_no_longer_is(
    cluster: Cluster,
    operator: Release,
    namespace: str,
    running: servers.Servers,
    database_urls: DatabaseUrls,
    tmp_path: Path,
) -> None:
    cluster.apply([tenant(namespace, "acme")])
    wait(cluster, namespace, "acme", "condition=Ready")
    token = token_of(cluster, namespace, "acme", "okta")
    with stacks.Stack(database_urls.app, running.redis_url, tmp_path) as stack:
        for suspend, ready, status in ((True, "False", 403), (False, "True", 200)):
            patch = json.dumps({"spec": {"suspend": suspend}})
            cluster.kubectl(
                "patch", "scimtenant", "acme", "-n", namespace, "--type=merge", f"--patch={patch}"
            )
            wait(cluster, namespace, "acme", f"condition=Ready={ready}")
            time.sleep(BELIEVED)
            assert answered(stack, token) == status
    assert token_of(cluster, namespace, "acme", "okta") == token


def test_a_host_is_of_who_had_it_first_and_of_the_next_one_when_that_goes(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    endpoint = {"host": f"{namespace}.example.com"}
    cluster.apply([tenant(namespace, "acme", endpoint=endpoint)])
    wait(cluster, namespace, "acme", "condition=Ready")
    cluster.apply([tenant(namespace, "globex", endpoint=endpoint)])
    wait(cluster, namespace, "globex", "condition=Conflict")
    found = cluster.get(namespace, "scimtenant", "globex")
    assert found is not None
    assert "url" not in found["status"].get("endpoint", {})
    events = cluster.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}").split()
    assert "HostTaken" in events
    cluster.kubectl("delete", "scimtenant", "acme", "-n", namespace, "--timeout=60s")
    wait(cluster, namespace, "globex", "condition=Conflict=False")
    wait(cluster, namespace, "globex", "condition=Ready")
