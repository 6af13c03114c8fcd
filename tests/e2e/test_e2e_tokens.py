"""Tokens through people, restarts and rotations, on a real API server."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import scimtenants

from usher_core.embedded.databases import DatabaseUrls

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release


def held(cluster: Cluster, namespace: str) -> str | None:
    """Return the id of the token in the Secret, None while there is none."""
    secret = cluster.get(namespace, "secret", "acme-scim-okta")
    if secret is None or "token" not in secret["data"]:
        return None
    text = base64.b64decode(secret["data"]["token"]).decode()
    return text.split("_")[1] if text.startswith("usher_") else None


def status(cluster: Cluster, namespace: str) -> dict[str, Any]:
    found: dict[str, Any] = (cluster.get(namespace, "scimtenant", "acme") or {})["status"]
    return found


def test_an_annotation_rotates_a_token_once_and_is_taken_off(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    scimtenants.make_example(cluster, namespace)
    old = held(cluster, namespace)
    cluster.kubectl("annotate", "scimtenant", "acme", "-n", namespace, "usher.dev/rotate=okta")
    cluster.until(lambda: held(cluster, namespace) != old, "another token")

    def annotations() -> Any:
        return (cluster.get(namespace, "scimtenant", "acme") or {})["metadata"].get("annotations", {})

    cluster.until(lambda: "usher.dev/rotate" not in annotations(), "it is acknowledged")
    (token,) = status(cluster, namespace)["tokens"]
    assert (token["id"], token["previous"]["id"]) == (held(cluster, namespace), old)
    new = held(cluster, namespace)
    operator.stop()
    operator.start()
    cluster.kubectl("label", "scimtenant", "acme", "-n", namespace, "nudged=true")
    cluster.kubectl("wait", "--for=condition=Ready", "scimtenant/acme", "-n", namespace, "--timeout=60s")
    assert held(cluster, namespace) == new


@pytest.mark.parametrize("own_operator", ["watching"], indirect=True)
def test_who_watches_secrets_notices_at_once_what_became_of_them(
    cluster: Cluster, own_operator: Release, namespace: str, database_urls: DatabaseUrls
) -> None:
    scimtenants.make_example(cluster, namespace)
    first = held(cluster, namespace)
    cluster.kubectl("delete", "secret", "acme-scim-okta", "-n", namespace)
    cluster.until(lambda: held(cluster, namespace) not in (None, first), "another token", patience=10)
    second = held(cluster, namespace)
    broken = json.dumps({"data": {"token": "YnJva2Vu"}})
    cluster.kubectl("patch", "secret", "acme-scim-okta", "-n", namespace, f"--patch={broken}")
    cluster.until(lambda: held(cluster, namespace) not in (None, second), "another token", patience=10)
    # A ConfigMap is watched when somebody gave it the label.
    cluster.kubectl("label", "configmap", "acme-saml", "-n", namespace, "usher.dev/tenant=acme")
    cluster.kubectl("delete", "configmap", "acme-saml", "-n", namespace)
    cluster.kubectl(
        "wait", "--for=condition=SSOReady=False", "scimtenant/acme", "-n", namespace, "--timeout=10s"
    )
    with psycopg.connect(database_urls.owner) as owner:
        # The lost ones have their overlap: somebody may use them.
        (count,) = owner.execute(
            "SELECT count(*) FROM tokens JOIN tenants USING (tenant)"
            " WHERE namespace = %s AND revoked_at IS NULL",
            [namespace],
        ).fetchone() or (0,)
    assert count == 3


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.full)])
def test_restarts_change_no_secret(cluster: Cluster, operator: Release, namespace: str, count: int) -> None:
    scimtenants.make_example(cluster, namespace)
    before = cluster.get(namespace, "secret", "acme-scim-okta")
    for number in range(count):
        operator.stop()
        operator.start()
        cluster.kubectl("label", "scimtenant", "acme", "-n", namespace, f"nudged=n{number}", "--overwrite")
        suspend = json.dumps({"spec": {"suspend": number % 2 == 0}})
        cluster.kubectl("patch", "scimtenant", "acme", "-n", namespace, "--type=merge", f"--patch={suspend}")
        wanted = f"--for=jsonpath={{.status.observedGeneration}}={number + 2}"
        cluster.kubectl("wait", wanted, "scimtenant/acme", "-n", namespace, "--timeout=60s")
    assert cluster.get(namespace, "secret", "acme-scim-okta") == before


def test_a_retained_tenant_is_adopted_with_what_it_holds_and_a_deleted_one_is_not(
    cluster: Cluster, operator: Release, namespace: str, database_urls: DatabaseUrls
) -> None:
    scimtenants.make_example(cluster, namespace)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute(
            "INSERT INTO totals SELECT tenant, 'User', 7 FROM tenants WHERE namespace = %s", [namespace]
        )
    cluster.until(lambda: status(cluster, namespace)["users"] == 7, "the users are counted")
    for policy, users in (("Delete", 7), ("Retain", 0)):
        cluster.kubectl("delete", "scimtenant", "acme", "-n", namespace, "--timeout=60s")
        scimtenants.make_example(cluster, namespace)
        assert status(cluster, namespace)["users"] == users
        changed = json.dumps({"spec": {"deletionPolicy": policy}})
        cluster.kubectl("patch", "scimtenant", "acme", "-n", namespace, "--type=merge", f"--patch={changed}")
