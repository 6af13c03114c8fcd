"""Schemas of a tenant's own, out of a ConfigMap: how their check stands is told in the tenant's status."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kmock._internal import references

from usher_core import settings
from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import schema_checks
from usher_core.tenants import manifests
from usher_worker import drains, processes

if TYPE_CHECKING:
    from conftest import Cluster, Operator

TENANTS = references.resource("usher.dev", "v1alpha1", "scimtenants")
CONFIG_MAPS = references.resource("", "v1", "configmaps")
EVENTS = references.resource("", "v1", "events")
ACME = manifests.tenant_id("identity", "acme")
DEVICE = "urn:example:scim:schemas:1.0:Device"
KIND = {"name": "Device", "endpoint": "/Devices", "schema": DEVICE}


def schemas(**serial: Any) -> dict[str, Any]:
    schema = {"id": DEVICE, "attributes": [{"name": "serial"} | serial]}
    return {"data": {"device.json": json.dumps(schema), "types.json": json.dumps([KIND])}}


def tenant(**provisioning: Any) -> dict[str, Any]:
    spec = {
        "tokens": [{"name": "okta", "secretRef": {"name": "acme-scim-okta"}}],
        "sso": {"mode": "Optional"},
        "provisioning": {"schemasConfigMapRef": {"name": "schemas"}} | provisioning,
    }
    return {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": "acme"},
        "spec": spec,
    }


@pytest.fixture
def worker(database_urls: DatabaseUrls, redis_url: str) -> Iterator[processes.Process]:
    config = settings.Settings(
        database_url=database_urls.app, redis_url=redis_url, drain_linger=0.0, drain_slice=0.001
    )
    opened = processes.Process(config)
    yield opened
    opened.close()


async def drain(worker: processes.Process) -> None:
    # Its slice of time is short: it gives way again and again.
    while await asyncio.to_thread(drains.Drain(worker, ACME).run) != "idle":
        pass


@pytest.fixture
async def quick(operator: Operator, redis_url: str, impatient: None) -> Operator:
    """The operator with a way to the queue, and in a hurry."""
    await operator.stop()
    operator.options = dataclasses.replace(operator.options, redis_url=redis_url)
    operator.start()
    return operator


async def until(cluster: Cluster, reason: str) -> dict[str, Any]:
    def seen() -> dict[str, Any] | None:
        condition = cluster.condition("acme", "SchemasReady")
        return condition if condition.get("reason") == reason else None

    found: dict[str, Any] = await cluster.until(seen, f"SchemasReady is {reason}")
    return found


async def test_schemas_are_checked_accepted_refused_and_told(
    cluster: Cluster, quick: Operator, worker: processes.Process, database_urls: DatabaseUrls
) -> None:
    await cluster.create(TENANTS, tenant())
    missing = await until(cluster, "SchemasMissing")
    assert missing["status"] == "False"
    assert "ConfigMap schemas" in missing["message"]
    await cluster.until_ready(reason="SchemasMissing")

    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "schemas"}} | schemas(type="text"))
    invalid = await until(cluster, "Invalid")
    assert f"device.json: {DEVICE}:serial: type must be one of" in invalid["message"]

    await cluster.patch(CONFIG_MAPS, "schemas", schemas())
    checking = await until(cluster, "Checking")
    assert checking["status"] == "Unknown"
    await drain(worker)
    assert (await until(cluster, "Accepted"))["status"] == "True"
    await cluster.until_ready()

    _fill(database_urls)
    await cluster.patch(CONFIG_MAPS, "schemas", schemas(uniqueness="server"))
    await until(cluster, "Checking")
    await drain(worker)
    refused = await until(cluster, "Contradicted")
    assert "serial is the same as that of" in refused["message"]
    await cluster.until_ready(reason="Contradicted")
    await cluster.until(
        lambda: (
            {event["reason"] for event in cluster.all(EVENTS)}
            >= {"SchemasMissing", "Invalid", "Contradicted"}
        ),
        "the events",
    )


async def test_progress_is_told_while_it_lasts(
    cluster: Cluster,
    quick: Operator,
    worker: processes.Process,
    database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "schemas"}} | schemas())
    await cluster.create(TENANTS, tenant())
    await until(cluster, "Checking")
    await drain(worker)
    await until(cluster, "Accepted")
    _fill(database_urls)
    await cluster.patch(CONFIG_MAPS, "schemas", schemas(required=True))
    await until(cluster, "Checking")
    monkeypatch.setattr(schema_checks, "SLICE", 1)
    process = drains.Drain(worker, ACME)
    process._open()
    taken = process._tail.take(1, block=0)
    await asyncio.to_thread(process._process_entries, taken.entries)
    await cluster.until(
        lambda: (
            cluster.condition("acme", "SchemasReady").get("message") == "1 of 2 checked; later changes wait"
        )
    )
    await drain(worker)
    await until(cluster, "Accepted")


async def test_a_check_that_is_under_way_is_looked_at_soon(
    cluster: Cluster, operator: Operator, worker: processes.Process, redis_url: str
) -> None:
    # At its own pace: what is settled is looked at after minutes only.
    await operator.stop()
    operator.options = dataclasses.replace(operator.options, redis_url=redis_url)
    operator.start()
    await cluster.create(CONFIG_MAPS, {"metadata": {"name": "schemas"}} | schemas())
    await cluster.create(TENANTS, tenant())
    await until(cluster, "Checking")
    await drain(worker)
    await until(cluster, "Accepted")


async def test_a_tenant_with_ours_alone_has_no_such_condition(cluster: Cluster, quick: Operator) -> None:
    await cluster.create(TENANTS, tenant(schemasConfigMapRef=None))
    await cluster.until_ready()
    assert cluster.condition("acme", "SchemasReady") == {}


def _fill(urls: DatabaseUrls) -> None:
    with psycopg.connect(urls.owner) as owner:
        for _ in range(2):
            owner.execute(
                "INSERT INTO resources (tenant, type, id, version, document, created_at, modified_at)"
                " VALUES (%s, 'Device', gen_random_uuid(), 1, %s, now(), now())",
                (ACME, json.dumps({"schemas": [DEVICE], "serial": "same"})),
            )
        owner.execute("INSERT INTO totals VALUES (%s, 'Device', 2)", (ACME,))
