"""The inventory knows what has to be read for the tenants, however many name the same."""

from __future__ import annotations

from typing import Any

from usher_operator import inventories


def tenant(name: str, spec: dict[str, Any], version: int = 1) -> dict[str, Any]:
    metadata = {"namespace": "identity", "name": name, "uid": name, "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": spec}


def metadata(**refs: str) -> dict[str, Any]:
    return {"sso": {"saml": {kind: {"name": name} for kind, name in refs.items()}}}


def test_a_source_that_tenants_share_counts_once() -> None:
    known = inventories.Inventory()
    for number in range(3):
        known.put(tenant(f"tenant-{number}", metadata(metadataConfigMapRef="shared")))
    known.put(tenant("other", metadata(metadataSecretRef="shared")))
    assert known.sources == 2


def test_what_no_tenant_names_any_more_does_not_count() -> None:
    known = inventories.Inventory()
    known.put(tenant("acme", metadata(metadataConfigMapRef="old")))
    known.put(tenant("acme", metadata(metadataConfigMapRef="new"), version=2))
    assert known.sources == 1
    known.drop(tenant("acme", {}))
    assert (known.sources, len(known)) == (0, 0)


def test_the_secrets_of_tokens_are_named_but_are_no_sources() -> None:
    body = tenant("acme", {"tokens": [{"secretRef": {"name": "acme-okta"}}, {"secretRef": None}, {}]})
    known = inventories.Inventory()
    known.put(body)
    assert (known.sources, inventories.references(body)) == (0, {("Secret", "acme-okta")})
