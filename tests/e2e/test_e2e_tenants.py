"""A tenant's way from `kubectl apply` to Ready, on a real API server."""

from __future__ import annotations

import base64
import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import scimtenants
import yaml

from usher_core.store import databases
from usher_core.tenants import authentications

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

COLUMNS = ["NAME", "READY", "ENDPOINT", "USERS", "PENDING", "TOKEN-EXPIRES", "AGE", "SUSPENDED", "REASON"]


async def test_the_example_becomes_ready_and_its_token_works(
    cluster: Cluster, operator: Release, namespace: str, database: databases.Database
) -> None:
    scimtenants.make_example(cluster, namespace)
    tenant = cluster.get(namespace, "scimtenant", "acme")
    secret = cluster.get(namespace, "secret", "acme-scim-okta")
    assert tenant is not None
    assert secret is not None
    assert set(secret["data"]) == {"token", "base_url", "expires_at"}
    metadata = secret["metadata"]
    assert metadata["labels"] == {
        "app.kubernetes.io/managed-by": "usher-operator",
        "usher.dev/tenant": "acme",
    }
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "usher.dev/v1alpha1",
            "kind": "ScimTenant",
            "name": "acme",
            "uid": tenant["metadata"]["uid"],
            "controller": True,
        }
    ]
    url = "https://scim.example.com/iam/scim/v2"
    beside = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert beside["base_url"] == url == tenant["status"]["endpoint"]["url"]
    (shown,) = tenant["status"]["tokens"]
    assert beside["expires_at"] == shown["expiresAt"]
    lifetime = datetime.fromisoformat(shown["expiresAt"]) - datetime.now(UTC)
    assert timedelta(hours=2159) < lifetime < timedelta(hours=2160)
    text = base64.b64decode(secret["data"]["token"]).decode()
    authenticator = authentications.Authenticator(database)
    await authenticator.authenticate(f"Bearer {text}", "scim.example.com")
    await authenticator.close()
    assert text not in operator.log
    assert text not in json.dumps(tenant)


def test_the_status_is_kept_whole_by_the_schema(cluster: Cluster, operator: Release, namespace: str) -> None:
    # What the schema does not know the API server drops without a word.
    scimtenants.make_example(cluster, namespace)
    tenant = cluster.get(namespace, "scimtenant", "acme")
    assert tenant is not None
    status = tenant["status"]
    assert {it["type"]: it["status"] for it in status["conditions"]} == {
        "Ready": "True",
        "SSOReady": "True",
        "TokensIssued": "True",
        "EndpointReady": "True",
        "Suspended": "False",
        "Conflict": "False",
    }
    assert {it["observedGeneration"] for it in status["conditions"]} == {1} == {status["observedGeneration"]}
    assert (status["users"], status["groups"]) == (0, 0)
    assert set(status["tokens"][0]) == {"name", "id", "issuedAt", "expiresAt", "renewAt"}


def test_kubectl_get_shows_the_columns(cluster: Cluster, operator: Release, namespace: str) -> None:
    scimtenants.make_example(cluster, namespace)
    header, row = cluster.kubectl("get", "scimt", "-n", namespace, "-o", "wide").splitlines()
    assert header.split() == COLUMNS
    starts = [header.index(name) for name in header.split()]
    cells = [row[start:end].strip() for start, end in zip(starts, [*starts[1:], None], strict=True)]
    shown = dict(zip(header.split(), cells, strict=True))
    assert shown["NAME"] == "acme"
    assert shown["READY"] == "True"
    assert shown["ENDPOINT"] == "https://scim.example.com/iam/scim/v2"
    assert shown["USERS"] == "0"
    assert datetime.fromisoformat(shown["TOKEN-EXPIRES"]) > datetime.now(UTC)
    assert (shown["SUSPENDED"], shown["REASON"]) == ("False", "Ready")


def test_the_column_is_of_the_token_that_expires_first(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    metadata, tenant = yaml.safe_load_all(scimtenants.example(namespace))
    brief = {
        "ttl": "1000h",
        "renewBefore": "100h",
        "overlap": "24h",
        "secretRef": {"name": "acme-scim-brief"},
    }
    tenant["spec"]["tokens"].append({"name": "brief", **brief})
    cluster.apply([metadata, tenant])
    scimtenants.wait(cluster, namespace, "acme")
    found = cluster.get(namespace, "scimtenant", "acme")
    assert found is not None
    expiries = {it["name"]: it["expiresAt"] for it in found["status"]["tokens"]}
    assert expiries["brief"] < expiries["okta"]
    _, row = cluster.kubectl("get", "scimt", "-n", namespace).splitlines()
    assert row.split()[-2] == expiries["brief"]


@pytest.mark.full
def test_metadata_that_changed_are_noticed_within_five_minutes(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    metadata, tenant = yaml.safe_load_all(scimtenants.example(namespace))
    cluster.apply([metadata, tenant])
    scimtenants.wait(cluster, namespace, "acme")
    metadata["data"]["metadata.xml"] = "<a/>"
    cluster.apply([metadata])
    waiting = ["wait", "scimtenant/acme", "-n", namespace, "--timeout=300s"]
    cluster.kubectl(*waiting, "--for=condition=SSOReady=False")


def test_a_tenant_without_metadata_waits_and_says_so(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    metadata, tenant = scimtenants.example(namespace).split("\n---\n")
    cluster.kubectl("apply", "-f", "-", stdin=tenant)
    waiting = ["wait", "scimtenant/acme", "-n", namespace, "--timeout=60s"]
    cluster.kubectl(*waiting, "--for=condition=SSOReady=False")
    cluster.kubectl(*waiting, "--for=condition=Ready=False")
    events = cluster.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}")
    assert "TokenIssued" in events
    cluster.kubectl("apply", "-f", "-", stdin=metadata)
    # What has been missing for a moment only is looked for often.
    scimtenants.wait(cluster, namespace, "acme")


def test_server_side_apply_has_no_conflict_with_the_operator(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    applying = ["apply", "--server-side", "--field-manager=pipeline", "-f", "-"]
    cluster.kubectl(*applying, stdin=scimtenants.example(namespace))
    scimtenants.wait(cluster, namespace, "acme")
    before = settled(cluster, namespace)
    cluster.kubectl(*applying, stdin=scimtenants.example(namespace))
    assert cluster.get(namespace, "scimtenant", "acme") == before
    cluster.kubectl(
        "diff", "--server-side", "--field-manager=pipeline", "-f", "-", stdin=scimtenants.example(namespace)
    )
    renamed = scimtenants.example(namespace).replace("Acme Corp", "Acme Limited")
    cluster.kubectl(*applying, stdin=renamed)
    cluster.kubectl(
        "wait",
        "scimtenant/acme",
        "-n",
        namespace,
        "--for=jsonpath={.status.observedGeneration}=2",
        "--timeout=60s",
    )


def settled(cluster: Cluster, namespace: str) -> dict[str, Any]:
    """Return the tenant once what waits was counted, which is the last thing to be told."""

    def counted() -> dict[str, Any] | None:
        found = cluster.get(namespace, "scimtenant", "acme")
        assert found is not None
        return found if "pendingChanges" in found["status"] else None

    return cluster.until(counted, "the first count of what waits") or {}


def test_a_restart_changes_nothing(cluster: Cluster, operator: Release, namespace: str) -> None:
    scimtenants.make_example(cluster, namespace)
    before = settled(cluster, namespace), cluster.get(namespace, "secret", "acme-scim-okta")
    operator.stop()
    operator.start()
    other = yaml.safe_load(scimtenants.example(namespace).split("\n---\n")[-1])
    other["metadata"]["name"] = "globex"
    other["spec"]["tokens"][0]["secretRef"]["name"] = "globex-scim-okta"
    cluster.apply([other])
    # One that came later is ready: so the first has been looked at.
    scimtenants.wait(cluster, namespace, "globex")
    after = cluster.get(namespace, "scimtenant", "acme"), cluster.get(namespace, "secret", "acme-scim-okta")
    assert after == before


@pytest.mark.parametrize(
    ("path", "told"),
    [
        pytest.param("scimtenant", "provider that pushes users and groups", id="the resource"),
        pytest.param(
            "scimtenant.spec.tokens.ttl", "Default 2160h (90 days)", id="a duration and its default"
        ),
        pytest.param("scimtenant.spec.sso.mode", "Required", id="a choice"),
        pytest.param("scimtenant.spec.deletionPolicy", "Retain", id="what a deletion leaves"),
        pytest.param("scimtenant.status.tokens", "never a token itself", id="the status"),
    ],
)
def test_kubectl_explains_every_field(cluster: Cluster, path: str, told: str) -> None:
    assert told in " ".join(cluster.kubectl("explain", path).split())


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.full)])
def test_many_tenants_become_ready_each_with_its_token(
    cluster: Cluster, operator: Release, namespace: str, count: int
) -> None:
    metadata, tenant = scimtenants.example(namespace).split("\n---\n")
    cluster.kubectl("apply", "-f", "-", stdin=metadata)
    made = []
    for number in range(count):
        it = yaml.safe_load(tenant)
        it["metadata"]["name"] = f"tenant-{number}"
        it["spec"]["tokens"][0]["secretRef"]["name"] = f"tenant-{number}-okta"
        made.append(it)
    cluster.apply(made)
    statuses = 'jsonpath={.items[*].status.conditions[?(@.type=="Ready")].status}'

    def all_ready() -> bool:
        return cluster.kubectl("get", "scimt", "-n", namespace, "-o", statuses).split() == ["True"] * count

    cluster.until(all_ready, f"{count} tenants are ready", patience=30)
    assert len(cluster.names(namespace, "secrets")) == count
    assert operator.memory < 250


@pytest.mark.full
def test_a_thousand_tenants_that_nobody_touches_cost_little(
    cluster: Cluster, operator: Release, namespace: str
) -> None:
    """At most five requests a second, each tenant looked at every five minutes."""
    test_many_tenants_become_ready_each_with_its_token(cluster, operator, namespace, 1000)
    time.sleep(30)
    before, began = len(operator.requests()), time.monotonic()
    time.sleep(120)
    asked = len(operator.requests()) - before
    assert asked / (time.monotonic() - began) <= 5
