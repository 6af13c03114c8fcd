"""What goes wrong around the operator, and that it ends well without a restart, or with one at any moment."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from kmock._internal import enums, references, rendering

from usher_core.embedded.databases import DatabaseUrls
from usher_core.tenants import manifests, reconciliations
from usher_operator import inventories, paces

if TYPE_CHECKING:
    from conftest import Cluster, Operator

TENANTS = references.resource("usher.dev", "v1alpha1", "scimtenants")
SECRETS = references.resource("", "v1", "secrets")
EVENTS = references.resource("", "v1", "events")
ACME = manifests.tenant_id("identity", "acme")
WRITES = (enums.action.CREATE, enums.action.UPDATE, enums.action.DELETE)


def tenant(name: str = "acme", **spec: Any) -> dict[str, Any]:
    wanted = {
        "tokens": [{"name": "okta", "secretRef": {"name": f"{name}-scim-okta"}}],
        "sso": {"mode": "Optional"},
    }
    return {
        "apiVersion": "usher.dev/v1alpha1",
        "kind": "ScimTenant",
        "metadata": {"name": name},
        "spec": wanted | spec,
    }


def held(cluster: Cluster, name: str = "acme", namespace: str = "identity") -> str:
    """Return the id of the token in its Secret."""
    secret = cluster.get(SECRETS, f"{name}-scim-okta", namespace)
    assert secret is not None
    return base64.b64decode(secret["data"]["token"]).decode().split("_")[1]


def living(urls: DatabaseUrls) -> list[str]:
    with psycopg.connect(urls.owner) as owner:
        rows = owner.execute("SELECT token_id FROM tokens WHERE revoked_at IS NULL ORDER BY issued_at")
        return [token_id for (token_id,) in rows.fetchall()]


def reasons(cluster: Cluster) -> list[str]:
    return [event["reason"] for event in cluster.all(EVENTS)]


def statuses_written(cluster: Cluster) -> int:
    return sum(
        request.action is enums.action.UPDATE and request.subresource == "status"
        for request in cluster.api._requests
    )


async def test_an_api_server_that_is_away_is_waited_for(
    impatient: None, cluster: Cluster, operator: Operator
) -> None:
    async def away(request: rendering.Request) -> int | None:
        return 503

    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    cluster.api.faults.append(away)
    await cluster.patch(TENANTS, "acme", {"spec": {"suspend": True}})
    await cluster.create(TENANTS, tenant("globex"))
    await asyncio.sleep(4)
    cluster.api.faults.clear()
    await cluster.until_ready("acme", "Suspended")
    await cluster.until_ready("globex")
    assert len(reasons(cluster)) == len(set(map(str, cluster.all(EVENTS))))


async def test_a_namespace_that_is_forbidden_hinders_no_other_one(
    impatient: None, cluster: Cluster, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def forbidden(request: rendering.Request) -> int | None:
        return 403 if request.namespace == "partners" else None

    await operator.stop()
    operator.options = dataclasses.replace(operator.options, namespaces=("identity", "partners"))
    cluster.api.faults.append(forbidden)
    await cluster.create(TENANTS, tenant(), "partners")
    operator.start()
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    assert (cluster.get(TENANTS, "acme", "partners") or {}).get("status") is None
    cluster.api.faults.clear()
    await cluster.until(lambda: (cluster.get(TENANTS, "acme", "partners") or {}).get("status"), "served")
    # One name in two namespaces is two tenants.
    assert held(cluster) != held(cluster, namespace="partners")


async def test_too_many_requests_are_asked_again_when_the_api_server_says(
    impatient: None, cluster: Cluster, operator: Operator
) -> None:
    asked: list[float] = []

    async def busy(request: rendering.Request) -> int | None:
        if request.action is enums.action.CREATE and request.resource == SECRETS:
            asked.append(time.monotonic())
            return 429 if len(asked) == 1 else None
        return None

    cluster.api.retry_after = 2
    cluster.api.faults.append(busy)
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready(reason="KubernetesUnavailable")
    await cluster.until_ready()
    assert asked[1] - asked[0] >= 2


async def test_a_store_that_is_away_writes_no_status_twice_and_no_event(
    impatient: None, cluster: Cluster, operator: Operator, database_urls: DatabaseUrls
) -> None:
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    server, _, name = database_urls.admin.rpartition("/")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false".encode())
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        await cluster.until_ready(reason="StoreUnavailable")
        before = statuses_written(cluster)
        await asyncio.sleep(3)
        assert statuses_written(cluster) == before
        admin.execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true".encode())
    await cluster.until_ready()
    assert reasons(cluster) == ["TokenIssued"]


async def test_figures_come_true_and_are_written_once(
    impatient: None, cluster: Cluster, operator: Operator, redis_url: str, database_urls: DatabaseUrls
) -> None:
    await operator.stop()
    operator.options = dataclasses.replace(operator.options, redis_url=redis_url)
    operator.start()
    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    await cluster.until(lambda: (cluster.get(TENANTS, "acme") or {})["status"].get("pendingChanges") == 0)
    fill(database_urls, held(cluster))

    def told() -> bool:
        status = (cluster.get(TENANTS, "acme") or {})["status"]
        (token,) = status["tokens"]
        found = [status.get(name) for name in ("users", "groups", "deadLetters", "lastChangeTime")]
        return [*found, token.get("lastUsedAt")] == [
            1204, 37, 1, "2026-11-24T12:00:01Z", "2026-11-24T12:03:00Z",
        ]  # fmt: skip

    await cluster.until(told, "the figures")
    before = statuses_written(cluster)
    await asyncio.sleep(2)
    assert statuses_written(cluster) == before


def fill(urls: DatabaseUrls, token_id: str) -> None:
    moment = datetime(2026, 11, 24, 12, tzinfo=UTC)
    with psycopg.connect(urls.owner) as owner:
        owner.execute("SELECT usher_keep_change_log(%s)", (moment,))
        owner.execute("INSERT INTO totals VALUES (%s, 'User', 1204), (%s, 'Group', 37)", (ACME, ACME))
        for seconds in (0, 1):
            owner.execute(
                "INSERT INTO change_log (tenant, accepted_at, change_id, stream_id, operation, resource_type,"
                " resource_id, token_id, request_id, applied_at, status)"
                " VALUES (%s, %s, gen_random_uuid(), '', 'create', 'User', gen_random_uuid(), '', '',"
                " %s, 201)",
                (ACME, moment + timedelta(seconds=seconds), moment + timedelta(seconds=seconds)),
            )
        owner.execute(
            "INSERT INTO dead_letters VALUES (%s, %s, gen_random_uuid(), '{}', 'Fault', '', 3, %s)",
            (ACME, moment, moment),
        )
        owner.execute(
            "UPDATE tokens SET last_used_at = %s WHERE token_id = %s",
            (moment + timedelta(minutes=3, seconds=40), token_id),
        )


async def test_a_rotation_that_is_asked_for_happens_once_and_is_acknowledged(
    impatient: None, cluster: Cluster, operator: Operator, database_urls: DatabaseUrls
) -> None:
    lost = 0

    async def lose(request: rendering.Request) -> int | None:
        # The annotation's end is refused at first: the token is rotated by then.
        nonlocal lost
        body = request.data if request.resource == TENANTS and request.action in WRITES else None
        if isinstance(body, dict) and body["metadata"].get("annotations") == {"usher.dev/rotate": None}:
            lost += 1
            return 500 if lost <= 2 else None
        return None

    await cluster.create(TENANTS, tenant())
    await cluster.until_ready()
    old = held(cluster)
    cluster.api.faults.append(lose)
    await cluster.patch(TENANTS, "acme", {"metadata": {"annotations": {"usher.dev/rotate": "okta, nobody"}}})
    await cluster.until(lambda: lost > 2 and "RotationRefused" in reasons(cluster), "it is acknowledged")
    assert not (cluster.get(TENANTS, "acme") or {})["metadata"]["annotations"]
    assert living(database_urls) == [old, held(cluster)]
    assert sorted(reasons(cluster)).count("TokenRotated") == 1
    (token,) = (cluster.get(TENANTS, "acme") or {})["status"]["tokens"]
    assert (token["id"], token["previous"]["id"]) == (held(cluster), old)


async def test_a_host_that_becomes_free_goes_to_who_waits_for_it(
    cluster: Cluster, operator: Operator
) -> None:
    own = {"endpoint": {"host": "scim.acme.example.com"}}
    await cluster.create(TENANTS, tenant(**own))
    await cluster.until_ready()
    await cluster.create(TENANTS, tenant("globex", **own))
    await cluster.until_ready("globex", "HostTaken")
    assert cluster.condition("globex", "Conflict")["status"] == "True"
    await cluster.delete(TENANTS, "acme")
    await cluster.until_ready("globex")
    assert reasons(cluster).count("HostTaken") == 1


async def test_data_are_deleted_in_the_background_and_the_status_tells_how_far_it_is(
    impatient: None,
    cluster: Cluster,
    operator: Operator,
    database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reconciliations, "REMOVING", 0.0)
    await cluster.create(TENANTS, tenant(deletionPolicy="Delete"))
    await cluster.until_ready()
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute(
            "INSERT INTO lookup_values SELECT %s, 'User', 'emails.value', n::text, gen_random_uuid()"
            " FROM generate_series(1, 60000) n",
            (ACME,),
        )
    await cluster.delete(TENANTS, "acme")
    told = await cluster.until(
        lambda: (
            cluster.condition("acme", "Ready").get("reason") == "Deleting"
            and cluster.condition("acme", "Ready")
        ),
        "it tells",
    )
    assert "rows left in lookup_values" in told["message"]
    # Another one need not wait for it.
    await cluster.create(TENANTS, tenant("globex"))
    await cluster.until_ready("globex")
    await cluster.until(lambda: cluster.get(TENANTS, "acme") is None, "it is gone")
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM lookup_values").fetchone() == (0,)


async def test_what_nobody_changed_is_looked_at_seldom(cluster: Cluster, operator: Operator) -> None:
    for number in range(5):
        await cluster.create(TENANTS, tenant(f"tenant-{number}"))
    for number in range(5):
        await cluster.until_ready(f"tenant-{number}")
    await asyncio.sleep(1)
    before, now = len(cluster.api._requests), datetime.now(UTC)
    keys = [inventories.Key("identity", f"tenant-{number}") for number in range(5)]
    due = sum(paces._turn(key, now) < 7 for key in keys)  # each has a moment of its own in five minutes
    await asyncio.sleep(5)
    assert len(cluster.api._requests) - before <= 4 * due
    # A thousand tenants: a Secret each, a source each or one of all that is read seldom, and the lease.
    looks = 1000 / paces.LOOK_AGAIN
    for named in (1, 300, 1000):
        reads = named / paces.memory(1000, named)
        assert min(reads, looks) + looks + 1 / 2.5 < 5


def test_each_tenant_has_a_turn_of_its_own_in_five_minutes() -> None:
    """However close together they were looked at before, the next looks are spread."""
    now = datetime(2026, 11, 24, 12, tzinfo=UTC)
    keys = [inventories.Key("identity", f"tenant-{number}") for number in range(1000)]
    turns = sorted(paces._turn(key, now) for key in keys)
    assert 0 < turns[0] < turns[-1] < 300
    busiest = max(sum(start <= turn < start + 10 for turn in turns) for start in range(300))
    assert busiest < 60
    # The turn after it is a whole round away.
    for key in keys[:10]:
        at = now + timedelta(seconds=paces._turn(key, now))
        assert 290 < paces._turn(key, at) < 300


@pytest.mark.parametrize("applied", [pytest.param(False, id="before"), pytest.param(True, id="after")])
async def test_a_process_that_is_killed_at_any_request_is_followed_by_one_that_ends_well(
    cluster: Cluster, database_urls: DatabaseUrls, operator: Operator, applied: bool
) -> None:
    """Killed as the API server hears of each of its writes, or when that was done and never answered."""
    await operator.stop()
    killed: list[str] = []
    victim: subprocess.Popen[bytes] | None = None
    for fatal in range(10):
        seen = 0

        async def kill(request: rendering.Request) -> int | None:
            nonlocal seen, victim
            if victim is None or request.action not in WRITES or request.resource == EVENTS:
                return None
            seen += 1
            if seen - 1 != fatal:  # noqa: B023 - it is awaited within the round
                return None
            if applied:
                await cluster.api._change(request)
            victim.send_signal(signal.SIGKILL)
            victim = None
            killed.append(f"{request.action.value} {request.resource}")
            return 503

        name = f"tenant-{fatal}"
        cluster.api.faults[:] = [kill]
        process = victim = _process(database_urls, operator.options.liveness_port)
        await cluster.create(TENANTS, tenant(name))
        await cluster.until(
            lambda: process.poll() is not None or cluster.condition(name, "Ready").get("reason") == "Ready",  # noqa: B023
            "it dies or gets there",
            patience=60,
        )
        died = len(killed) > fatal
        process.kill()
        await asyncio.to_thread(process.wait)
        cluster.api.faults.clear()
        if not died:
            break
        operator.start()
        await cluster.until_ready(name)
        await operator.stop()
        assert living_of(database_urls, name) == [held(cluster, name)], killed[-1]
    assert len(killed) == 3, killed


def living_of(urls: DatabaseUrls, name: str) -> list[str]:
    with psycopg.connect(urls.owner) as owner:
        rows = owner.execute(
            "SELECT token_id FROM tokens WHERE revoked_at IS NULL AND tenant = %s",
            (manifests.tenant_id("identity", name),),
        )
        return [token_id for (token_id,) in rows.fetchall()]


def _process(urls: DatabaseUrls, port: int) -> subprocess.Popen[bytes]:
    own = {key: value for key, value in os.environ.items() if not key.startswith("USHER_")}
    return subprocess.Popen(
        [sys.executable, "-m", "usher_core.commands", "operator", "--liveness", str(port)],
        env=own | {"USHER_DATABASE_URL": urls.app, "USHER_PUBLIC_URL": "https://scim.example.com"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
