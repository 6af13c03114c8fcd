"""What a deleted tenant leaves behind, with the operator there and without, on a real API server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import psycopg
import pytest
import scimtenants

from usher_core.embedded.databases import DatabaseUrls

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release


@pytest.fixture
def tenant(cluster: Cluster, operator: Release, namespace: str) -> str:
    """The example's tenant, ready."""
    scimtenants.make_example(cluster, namespace)
    return "acme"


def living_tokens(urls: DatabaseUrls, namespace: str) -> int:
    counting = (
        "SELECT count(*) FROM tokens JOIN tenants USING (tenant) WHERE namespace = %s AND revoked_at IS NULL"
    )
    with psycopg.connect(urls.owner) as owner:
        (found,) = owner.execute(counting, [namespace]).fetchone() or (0,)
    return int(found)


def leftovers(cluster: Cluster, namespace: str) -> set[str]:
    return cluster.names(namespace, "scimtenants,secrets")


def test_a_deleted_tenant_leaves_no_secret_no_finalizer_and_no_token(
    cluster: Cluster, tenant: str, namespace: str, database_urls: DatabaseUrls
) -> None:
    assert living_tokens(database_urls, namespace) == 1
    # It returns when the resource is gone, and so its finalizers.
    cluster.kubectl("delete", "scimtenant", tenant, "-n", namespace, "--timeout=60s")
    cluster.until(lambda: not leftovers(cluster, namespace), "nothing is left")
    assert living_tokens(database_urls, namespace) == 0


def test_a_tenant_deleted_without_an_operator_waits_for_it(
    cluster: Cluster, operator: Release, tenant: str, namespace: str, database_urls: DatabaseUrls
) -> None:
    operator.stop()
    cluster.kubectl("delete", "scimtenant", tenant, "-n", namespace, "--wait=false")
    waiting = cluster.get(namespace, "scimtenant", tenant)
    assert waiting is not None
    assert waiting["metadata"]["finalizers"] == ["usher.dev/operator"]
    assert "deletionTimestamp" in waiting["metadata"]
    # Until somebody revokes it the token is good, and so its Secret stays.
    assert cluster.get(namespace, "secret", "acme-scim-okta") is not None
    assert living_tokens(database_urls, namespace) == 1
    operator.start()
    cluster.until(lambda: not leftovers(cluster, namespace), "nothing is left")
    assert living_tokens(database_urls, namespace) == 0


def test_a_tenant_that_is_let_go_by_hand_takes_its_secret_along(
    cluster: Cluster, operator: Release, tenant: str, namespace: str
) -> None:
    # For a cluster whose operator is gone for good: the owner reference has the Secret collected.
    operator.stop()
    cluster.kubectl("delete", "scimtenant", tenant, "-n", namespace, "--wait=false")
    unbound = json.dumps({"metadata": {"finalizers": None}})
    cluster.kubectl("patch", "scimtenant", tenant, "-n", namespace, "--type=merge", f"--patch={unbound}")
    cluster.until(lambda: not leftovers(cluster, namespace), "nothing is left")


def test_a_tenant_that_comes_back_gets_another_token(
    cluster: Cluster, tenant: str, namespace: str, database_urls: DatabaseUrls
) -> None:
    first = cluster.get(namespace, "secret", "acme-scim-okta")
    cluster.kubectl("delete", "scimtenant", tenant, "-n", namespace, "--timeout=60s")
    scimtenants.make_example(cluster, namespace)
    second = cluster.get(namespace, "secret", "acme-scim-okta")
    assert first is not None
    assert second is not None
    assert first["data"] != second["data"]
    assert living_tokens(database_urls, namespace) == 1


def test_a_deleted_namespace_goes_with_its_tenants(
    cluster: Cluster, operator: Release, tenant: str, namespace: str, database_urls: DatabaseUrls
) -> None:
    cluster.kubectl("delete", "namespace", namespace, "--timeout=60s")
    assert living_tokens(database_urls, namespace) == 0
