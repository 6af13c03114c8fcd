"""The operator's rights: it needs no more than the chart gives it, and is given no more than it needs.

What it asked comes out of the API server's own log. A cluster that the tests did not start shows none: there
the tenants' lives are lived through, and the rights are not counted.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import pytest
from audits import Request, Right, requests_of

from usher_core.testing import identity_providers

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

METADATA = identity_providers.metadata()


def documents(namespace: str) -> list[dict[str, Any]]:
    """Make two tenants: metadata out of either source, two tokens in one Secret."""
    made: list[dict[str, Any]] = []
    for kind, field, source in (
        ("ConfigMap", "data", "metadataConfigMapRef"),
        ("Secret", "stringData", "metadataSecretRef"),
    ):
        name = kind.lower()
        metadata = {"name": f"{name}-saml", "namespace": namespace}
        made.append(
            {"apiVersion": "v1", "kind": kind, "metadata": metadata, field: {"metadata.xml": METADATA}}
        )
        tokens = [
            {"name": it, "secretRef": {"name": f"{name}-tokens", "key": it}} for it in ("okta", "entra")
        ]
        saml = {"saml": {source: {"name": f"{name}-saml", "key": "metadata.xml"}}}
        made.append(
            {
                "apiVersion": "usher.dev/v1alpha1",
                "kind": "ScimTenant",
                "metadata": {"name": name, "namespace": namespace},
                "spec": {"tokens": tokens, "sso": saml},
            }
        )
    return made


def live(cluster: Cluster, namespace: str) -> None:
    """Take tenants through their life: made, given away a token, deleted."""
    made = documents(namespace)
    cluster.apply(made)
    waiting = ["wait", "scimtenant/configmap", "scimtenant/secret", "-n", namespace, "--timeout=60s"]
    cluster.kubectl(*waiting, "--for=condition=Ready")
    for it in made:
        if it["kind"] == "ScimTenant":
            it["spec"]["tokens"].pop()
    cluster.apply(made)
    cluster.kubectl(*waiting, "--for=jsonpath={.status.observedGeneration}=2")
    cluster.kubectl("delete", "scimtenants", "--all", "-n", namespace, "--timeout=60s")


@pytest.mark.parametrize("own_operator", ["namespace", "cluster", "watching"], indirect=True)
def test_every_right_is_needed_and_none_is_missing(
    cluster: Cluster, own_operator: Release, namespace: str
) -> None:
    live(cluster, namespace)
    own_operator.stop()  # it gives its lease back: that is an update, however short the lives were
    if cluster.audit_log is None:
        return
    used = {it.right for it in own_operator.requests() if it.right is not None}
    assert {str(right) for right in used - own_operator.rights} == set()
    assert {str(right) for right in own_operator.rights - used} == set()


def test_the_log_holds_what_was_refused(cluster: Cluster, namespace: str) -> None:
    """A forbidden request is seen in the log: that none is there means that none was."""
    if cluster.audit_log is None:
        return
    cluster.kubectl("create", "serviceaccount", "stranger", "-n", namespace)
    stranger = dataclasses.replace(cluster, kubeconfig=cluster.log_in(namespace, "stranger"))
    assert "(Forbidden)" in stranger.refusal("get", "secret", "anything", "-n", namespace)
    # A request is recorded when its answer is under way.
    (asked,) = cluster.until(lambda: _refused(cluster, namespace), "the refusal in the log")
    assert (asked.right, asked.namespace) == (Right("", "secrets", "get"), namespace)


def _refused(cluster: Cluster, namespace: str) -> list[Request]:
    assert cluster.audit_log is not None
    asked = requests_of(f"system:serviceaccount:{namespace}:stranger", cluster.audit_log)
    return [it for it in asked if it.status == 403]
