"""What was promised goes back into the streams in its order, and a full queue empties itself."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import threading
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import redis

from usher_core import errors, ids, settings
from usher_core.changes import records, revocations
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import appends, connections, keys
from usher_core.scim import documents, schemas
from usher_core.store import databases, inboxes
from usher_worker import sweeps

USER = schemas.default().by_name("User")
TENANT, OTHER = (ids.TenantId(uuid.UUID(int=number)) for number in (1, 2))


@pytest.fixture(autouse=True)
def tenants(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as owner:
        for tenant in (TENANT, OTHER):
            owner.execute(
                "INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', %s)", (tenant, str(tenant))
            )
            owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (tenant,))


@pytest.fixture
def config(database_urls: DatabaseUrls, redis_url: str) -> settings.Settings:
    return settings.Settings(database_url=database_urls.app, redis_url=redis_url, drain_linger=0.0)


@pytest.fixture
def sweep(config: settings.Settings) -> Iterator[sweeps.Sweep]:
    stopping = threading.Event()
    made = sweeps.Sweep(config, stopping)
    yield made
    stopping.set()
    made.close()


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    with contextlib.closing(connections.connect(redis_url)) as opened:
        yield opened


def create(name: str, **more: Any) -> records.Change:
    made = records.Change(
        ids.ChangeId(ids.new_uuid()),
        records.now(),
        "create",
        "User",
        ids.ResourceId(ids.new_uuid()),
        documents.normalise(USER, {"userName": name}),
        None,
        "t",
        "r",
        "",
    )
    return dataclasses.replace(made, **more)


async def promise(database: databases.Database, tenant: ids.TenantId, change: records.Change) -> None:
    await inboxes.accept(database, tenant, change, [(change, (revocations.Fence(change.resource_id),))])


async def append(
    config: settings.Settings, database: databases.Database, tenant: ids.TenantId, *items: Any
) -> None:
    async def nothing_promised() -> bool:
        return await inboxes.is_empty(database)

    async with connections.connect_async(config.redis_url) as opened:
        end = appends.Appender(opened, nothing_promised, oldest=60)
        for item in items:
            await end.append(tenant, item)


def stream(client: redis.Redis, tenant: ids.TenantId) -> list[ids.ChangeId]:
    return [
        records.Change.decode(fields[b"c"]).change_id
        for _, fields in client.xrange(keys.changes(tenant)) or ()
    ]


async def test_after_a_loss_all_promised_changes_are_back_in_order_before_anything_is_appended(
    config: settings.Settings, database: databases.Database, sweep: sweeps.Sweep, client: redis.Redis
) -> None:
    changes = [create(f"{number}@x") for number in range(5)]
    for number, change in enumerate(changes):
        await promise(database, OTHER if number == 3 else TENANT, change)
    client.flushdb()
    late = create("late@x")
    with pytest.raises(appends.GenerationLost):
        await append(config, database, TENANT, appends.Item(late.encode()))
    sweep.keep_promises()
    assert stream(client, TENANT) == [changes[number].change_id for number in (0, 1, 2, 4)]
    assert stream(client, OTHER) == [changes[3].change_id]
    await append(config, database, TENANT, appends.Item(late.encode()))
    assert stream(client, TENANT)[-1] == late.change_id
    assert {one.tenant for one in sweep.waiting()} == {TENANT, OTHER}


async def test_more_promises_than_a_page_are_all_put_back_once(
    database: databases.Database, sweep: sweeps.Sweep, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usher_core.store.sweeps.PROMISED_AT_ONCE", 2)
    changes = [create(f"{number}@x") for number in range(5)]
    for change in changes:
        await promise(database, TENANT, change)
    for _ in range(3):
        sweep.keep_promises()
    assert stream(client, TENANT) == [change.change_id for change in changes]


async def test_a_promise_that_nobody_appended_goes_back_after_a_while(
    config: settings.Settings, database: databases.Database, sweep: sweeps.Sweep, client: redis.Redis
) -> None:
    await append(config, database, TENANT, appends.Item(create("first@x").encode()))
    old = create("old@x", accepted_at=records.now() - datetime.timedelta(seconds=11))
    young = create("young@x")
    for change in (old, young):
        await promise(database, TENANT, change)
    sweep.keep_promises()
    assert stream(client, TENANT)[1:] == [old.change_id]


async def test_a_promise_that_stands_in_its_stream_is_not_put_there_twice(
    config: settings.Settings, database: databases.Database, sweep: sweeps.Sweep, client: redis.Redis
) -> None:
    await append(config, database, TENANT, appends.Item(create("first@x").encode()))
    old = create("old@x", accepted_at=records.now() - datetime.timedelta(seconds=11))
    await promise(database, TENANT, old)
    item = appends.Item(old.encode(), urgent=True, promised=old.change_id)
    await append(config, database, TENANT, item)
    sweep.keep_promises()
    assert stream(client, TENANT)[1:] == [old.change_id]


async def test_a_promise_of_a_tenant_that_is_gone_is_not_put_back(
    database: databases.Database, database_urls: DatabaseUrls, sweep: sweeps.Sweep, client: redis.Redis
) -> None:
    for tenant in (TENANT, OTHER):
        await promise(database, tenant, create("a@x"))
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("UPDATE tenants SET deleted_at = now() WHERE tenant = %s", (TENANT,))
    sweep.keep_promises()
    assert (len(stream(client, TENANT)), len(stream(client, OTHER))) == (0, 1)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("UPDATE tenants SET deleted_at = now()")
    assert await inboxes.is_empty(database), "an api need not wait for it"


async def test_the_sweep_tells_that_it_goes_on_after_each_page_of_promises(
    database: databases.Database, sweep: sweeps.Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usher_core.store.sweeps.PROMISED_AT_ONCE", 1)
    for number in range(3):
        await promise(database, TENANT, create(f"{number}@x"))
    ticks: list[float] = []
    monkeypatch.setattr(sweep._promises, "_tick", lambda: ticks.append(sweep.ticked))
    sweep.keep_promises()
    assert len(ticks) == 4


async def test_a_change_of_a_tenant_that_is_gone_is_not_accepted(database: databases.Database) -> None:
    with pytest.raises(errors.TenantGone):
        await promise(database, ids.TenantId(uuid.UUID(int=3)), create("a@x"))
    assert await inboxes.is_empty(database)


async def test_a_promise_whose_answer_was_lost_is_made_once(
    database: databases.Database, database_urls: DatabaseUrls
) -> None:
    change = create("a@x")
    for _ in range(2):
        await promise(database, TENANT, change)
    with psycopg.connect(database_urls.owner) as owner:
        counted = "SELECT (SELECT count(*) FROM inbox), (SELECT count(*) FROM events)"
        assert owner.execute(counted).fetchone() == (1, 1)
