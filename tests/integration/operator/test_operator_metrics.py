"""The operator shows when what users sign in by ends, and notices by itself that metadata changed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from kmock._internal import references
from prometheus_client.parser import text_string_to_metric_families

from usher_core.testing import identity_providers

if TYPE_CHECKING:
    from conftest import Cluster, Operator

TENANTS = references.resource("usher.dev", "v1alpha1", "scimtenants")
CONFIG_MAPS = references.resource("", "v1", "configmaps")


def tenant() -> dict[str, Any]:
    return {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": "acme"},
        "spec": {
            "tokens": [{"name": "okta", "secretRef": {"name": "acme-scim-okta"}}],
            "sso": {"saml": {"metadataConfigMapRef": {"name": "own"}}},
        },
    }


def values(ends_at: datetime) -> dict[str, Any]:
    certificate = identity_providers.certificate(ends_at - timedelta(days=365), ends_at)
    return {"data": {"metadata.xml": identity_providers.metadata(certificate)}}


async def ends(operator: Operator) -> float | None:
    """Read when the tenant's certificate ends; `None` when nothing is said."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{operator.options.metrics_port}/metrics")
    found = [
        sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "usher_sso_ends_timestamp_seconds"
        and sample.labels == {"namespace": "identity", "tenant": "acme"}
    ]
    return found[0] if found else None


async def until_told(operator: Operator, wanted: float | None) -> None:
    async with asyncio.timeout(5):
        while await ends(operator) != wanted:  # noqa: ASYNC110 - the operator tells nobody
            await asyncio.sleep(0.1)


@pytest.mark.usefixtures("impatient")
async def test_the_end_of_a_certificate_is_told_and_its_successor_noticed(
    cluster: Cluster, operator: Operator
) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=10)
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "own"}, **values(soon)})
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    condition = cluster.condition("acme", "SSOReady")
    assert (condition["status"], condition["reason"]) == ("True", "CertificateEndsSoon")
    assert soon.strftime("%Y-%m-%dT%H:%M:%SZ") in condition["message"]
    await until_told(operator, soon.timestamp())
    late = soon + timedelta(days=100)
    await cluster.patch(CONFIG_MAPS, "own", values(late))
    await cluster.until(
        lambda: cluster.condition("acme", "SSOReady")["reason"] == "MetadataValid", "a look by itself"
    )
    await until_told(operator, late.timestamp())
    await cluster.delete(TENANTS, "acme")
    await cluster.until(lambda: cluster.get(TENANTS, "acme") is None, "the deletion")
    await until_told(operator, None)
