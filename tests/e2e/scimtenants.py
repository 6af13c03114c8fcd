"""ScimTenants as the tests of this folder make them, wait for them and read what they give away."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clusters import Cluster, Document

EXAMPLE = Path(__file__).parents[2] / "examples" / "acme.yaml"
EXAMPLE_SECRET = "acme-scim-okta"


def example(namespace: str) -> str:
    """Return the manifests of the example with the test's namespace in place of its own."""
    text = EXAMPLE.read_text()
    assert text.count("namespace: identity") == 2
    return text.replace("namespace: identity", f"namespace: {namespace}")


def make_example(cluster: Cluster, namespace: str) -> None:
    """Apply the example, and wait until its tenant `acme` is ready."""
    cluster.kubectl("apply", "-f", "-", stdin=example(namespace))
    wait(cluster, namespace, "acme")


def manifest(namespace: str, name: str, *tokens: Mapping[str, Any], **spec: Any) -> Document:
    """Return a tenant that needs no metadata; without tokens it has one, in the Secret `<name>-okta`."""
    return {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "tokens": list(tokens) or [{"name": "okta", "secretRef": {"name": f"{name}-okta"}}],
            "sso": {"mode": "Optional"},
            **spec,
        },
    }


def wait(
    cluster: Cluster, namespace: str, *names: str, what: str = "condition=Ready", patience: int = 60
) -> None:
    """Wait as a person or a pipeline would; without names for every tenant of the namespace."""
    chosen = [f"scimtenant/{name}" for name in names] or ["scimtenants", "--all"]
    cluster.kubectl("wait", f"--for={what}", *chosen, "-n", namespace, f"--timeout={patience}s")


def token(cluster: Cluster, namespace: str, secret: str, key: str = "token") -> str:
    """Read the token that stands in a Secret."""
    found = cluster.get(namespace, "secret", secret)
    assert found is not None
    return base64.b64decode(found["data"][key]).decode()
