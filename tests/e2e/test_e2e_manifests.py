"""What the CustomResourceDefinition accepts and refuses, word for word, by a real API server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from clusters import Cluster

MANIFESTS = Path(__file__).parents[1] / "chart" / "manifests"
GOOD = sorted((MANIFESTS / "good").glob("*.yaml"))
BAD = sorted((MANIFESTS / "bad").glob("*.yaml"))


def text_of(path: Path, namespace: str) -> str:
    text = path.read_text()
    assert "namespace: identity" in text
    return text.replace("namespace: identity", f"namespace: {namespace}")


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_a_good_manifest_is_accepted_and_can_be_applied_again(
    cluster: Cluster, namespace: str, path: Path
) -> None:
    for _ in range(2):
        said = cluster.run("apply", "-f", "-", stdin=text_of(path, namespace))
        assert (said.returncode, said.stderr) == (0, "")
    (name,) = cluster.names(namespace, "scimtenants")
    tenant = cluster.get(namespace, "scimtenant", name)
    assert tenant is not None
    assert tenant["metadata"]["generation"] == 1  # applied again it is the same: every default was there


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_manifest_is_refused_in_its_words(cluster: Cluster, namespace: str, path: Path) -> None:
    text = text_of(path, namespace)
    message = text.splitlines()[0].removeprefix("# refused: ")
    *accepted, refused = text.split("\n---\n")
    for document in accepted:
        cluster.kubectl("apply", "-f", "-", stdin=document)
    assert message in cluster.refusal("apply", "-f", "-", stdin=refused)


def test_what_a_spec_leaves_out_takes_its_defaults(cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("apply", "-f", "-", stdin=text_of(MANIFESTS / "good" / "minimal.yaml", namespace))
    (name,) = cluster.names(namespace, "scimtenants")
    tenant = cluster.get(namespace, "scimtenant", name)
    assert tenant is not None
    (token,) = tenant["spec"]["tokens"]
    assert (token["ttl"], token["renewBefore"], token["overlap"]) == ("2160h", "720h", "24h")
    assert (token["role"], token["secretRef"]["key"]) == ("administrator", "token")
    assert tenant["spec"]["endpoint"] == {"path": "/iam/scim/v2"}
    assert tenant["spec"]["deletionPolicy"] == "Retain"
    assert tenant["spec"]["suspend"] is False
