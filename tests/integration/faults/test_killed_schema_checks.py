"""A worker killed with -9 in the middle of a check of schemas: another one goes on and comes to the end."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from usher_core.embedded.databases import DatabaseUrls
from usher_core.store import databases, schema_requests
from usher_core.tenants import definitions, manifests, reconciliations, vaults
from usher_core.testing import stacks

COUNT = 30_000
DEVICE = "urn:example:scim:schemas:1.0:Device"
TENANT = manifests.tenant_id("identity", "acme")
MANIFEST = manifests.parse(
    {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": "acme", "namespace": "identity"},
        "spec": {
            "tokens": [{"name": "okta", "secretRef": {"name": "okta"}}],
            "sso": {"mode": "Optional"},
            "provisioning": {"schemasConfigMapRef": {"name": "schemas"}},
        },
    }
)
FILL = """
INSERT INTO resources (tenant, type, id, version, document, created_at, modified_at)
SELECT %s, 'Device', gen_random_uuid(), 1,
       jsonb_build_object('schemas', jsonb_build_array(%s::text), 'serial', 'S' || n), now(), now()
  FROM generate_series(1, %s) AS n
"""


async def reconcile(database: databases.Database, stack: stacks.Stack, folder: Path, **serial: str) -> str:
    wanted = [
        {"id": DEVICE, "attributes": [{"name": "serial"} | serial]},
        {"name": "Device", "endpoint": "/Devices", "schema": DEVICE},
    ]
    texts = {("identity", "schemas"): {"all": json.dumps(wanted).encode()}}
    done = await reconciliations.reconcile(
        MANIFEST,
        manifests.Bundle((), {}, texts),
        vaults.FileVault(folder),
        database,
        None,
        definitions.Channel("dev", stack.redis_url),
        datetime.now(UTC),
    )
    return done.condition("SchemasReady").reason


async def until(
    what: str, database: databases.Database, stack: stacks.Stack, folder: Path, **serial: str
) -> None:
    async with asyncio.timeout(60):
        while await reconcile(database, stack, folder, **serial) != what:  # noqa: ASYNC110 - it is elsewhere
            await asyncio.sleep(0.1)


async def checked(database: databases.Database) -> int:
    request = (await schema_requests.find(database, TENANT)).request
    return 0 if request is None else request.checked


async def test_a_killed_worker_ends_no_check(
    database_urls: DatabaseUrls, database: databases.Database, redis_url: str, tmp_path: Path
) -> None:
    with stacks.Stack(database_urls.app, redis_url, tmp_path) as stack:
        await until("Accepted", database, stack, tmp_path)
        with psycopg.connect(database_urls.owner) as owner:
            owner.execute(FILL, (TENANT, DEVICE, COUNT))
            owner.execute("INSERT INTO totals VALUES (%s, 'Device', %s)", (TENANT, COUNT))
        assert await reconcile(database, stack, tmp_path, uniqueness="server") == "Checking"
        async with asyncio.timeout(30):
            while not await checked(database):  # noqa: ASYNC110 - it is in another process
                await asyncio.sleep(0.01)
        stack.kill_worker()
        left_off = await checked(database)
        assert 0 < left_off < COUNT
        stack.start_worker()
        await until("Accepted", database, stack, tmp_path, uniqueness="server")
        assert await checked(database) == COUNT
        with psycopg.connect(database_urls.owner) as owner:
            assert owner.execute(
                "SELECT count(*), count(DISTINCT id) FROM unique_values WHERE path = 'serial'"
            ).fetchall() == [(COUNT, COUNT)]
            assert (
                owner.execute("SELECT operation, status, token_id FROM change_log").fetchall()
                == [("schemas", 200, "dev")] * 2
            )
