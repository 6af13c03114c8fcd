"""A drain applies what it can, singles out what it can't, and gives way to its successor."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime
import time
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from rq.utils import import_attribute

from usher_core import errors, ids, settings
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import appends, backlogs, connections, jobs, keys, replies, streams
from usher_core.scim import documents, schemas
from usher_core.store import batches, histories, rowsets
from usher_worker import drains, holds, processes

USER = schemas.default().by_name("User")
TENANT = ids.TenantId(uuid.UUID(int=1))
REPLIES = "usher:replies:test"


@pytest.fixture(autouse=True)
def tenant(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
        owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (TENANT,))


@pytest.fixture
def process(database_urls: DatabaseUrls, redis_url: str) -> Iterator[processes.Process]:
    """A worker process whose drains do not linger."""
    config = settings.Settings(
        database_url=database_urls.app, redis_url=redis_url, drain_linger=0.0, alone_attempts=2, batch_size=4
    )
    opened = processes.Process(config)
    yield opened
    opened.close()


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
        REPLIES,
    )
    return dataclasses.replace(made, **more)


async def nothing_promised() -> bool:
    return True


async def append(
    redis_url: str, *changes: records.Change, oldest: float = 60, tenant: ids.TenantId = TENANT
) -> list[bool]:
    async with connections.connect_async(redis_url) as client:
        appender = appends.Appender(client, nothing_promised, oldest=oldest)
        return [await appender.append(tenant, appends.Item(change.encode())) for change in changes]


def answers(process: processes.Process) -> list[int]:
    sent = process.redis.lrange(REPLIES, 0, -1)
    return [records.Outcome.decode(data).status for data in sent if isinstance(data, bytes)]


def dead_letters(urls: DatabaseUrls) -> list[tuple[str, int]]:
    with psycopg.connect(urls.app) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(TENANT),))
        return app.execute("SELECT reason, attempts FROM dead_letters ORDER BY failed_at").fetchall()


def test_the_path_of_the_job_leads_to_the_drain() -> None:
    assert import_attribute(jobs.DRAIN) is drains.drain


async def test_only_the_first_change_of_a_quiet_tenant_wakes_a_drain(redis_url: str) -> None:
    assert await append(redis_url, create("a@x"), create("b@x")) == [True, False]


async def test_a_drain_empties_the_stream_and_answers_in_order(
    process: processes.Process, redis_url: str
) -> None:
    await append(redis_url, *(create(f"{n}@x") for n in range(10)), create("3@x"))
    assert drains.Drain(process, TENANT).run() == "idle"
    assert answers(process) == [201] * 10 + [409]
    assert process.redis.xlen(keys.changes(TENANT)) == 0
    assert not process.redis.exists(keys.wake(TENANT), keys.attempts(TENANT))
    assert not process.redis.sismember(keys.PENDING, str(TENANT))
    assert 0 < process.redis.pttl(REPLIES) <= keys.REPLIES_LIFE


async def test_a_broken_change_becomes_a_dead_letter_and_its_neighbours_are_applied(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    broken = create("b@x", operation="patch", body="nonsense")
    await append(redis_url, create("a@x"), broken, create("c@x"), create("d@x"), create("e@x"))
    drains.Drain(process, TENANT).run()
    assert answers(process) == [201, 500, 201, 201, 201]
    assert [attempts for _, attempts in dead_letters(database_urls)] == [2]
    assert not process.redis.exists(keys.attempts(TENANT))


@pytest.mark.parametrize("operation", ["create", "delete"])
@pytest.mark.parametrize("place", ["questions", "snapshot", "derive"])
async def test_whatever_breaks_over_a_change_is_blamed_on_it_with_a_traceback(
    process: processes.Process,
    redis_url: str,
    database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    operation: Any,
) -> None:
    await append(redis_url, create("first@x"))  # what is only created may go another way from now on
    drains.Drain(process, TENANT).run()
    broken = create("b@x", operation=operation)
    changes = [create("a@x", operation=operation), broken, create("c@x", operation=operation)]
    works = getattr(rowsets, place)

    def breaks(*given: Any) -> Any:
        if str(broken.resource_id) in repr(given) or "b@x" in repr(given):
            raise ZeroDivisionError("of ours")
        return works(*given)

    bury = process.store.bury

    def by_itself(*args: Any, **more: Any) -> Any:
        with monkeypatch.context() as patched:
            patched.setattr(rowsets, place, works)
            return bury(*args, **more)

    monkeypatch.setattr(rowsets, place, breaks)
    monkeypatch.setattr(process.store, "bury", by_itself)
    await append(redis_url, *changes)
    assert drains.Drain(process, TENANT).run() == "idle"
    well = 201 if operation == "create" else 404
    assert answers(process) == [201, well, 500, well]
    with psycopg.connect(database_urls.owner) as owner:
        [(reason, trace)] = owner.execute("SELECT reason, traceback FROM dead_letters").fetchall()
    assert (reason, "in breaks" in trace) == ("ZeroDivisionError", True)


async def test_an_entry_that_is_no_change_becomes_a_dead_letter(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    await append(redis_url, create("a@x"))
    process.redis.xadd(keys.changes(TENANT), {"c": b"\xff nonsense"})
    await append(redis_url, create("c@x"))
    drains.Drain(process, TENANT).run()
    assert answers(process) == [201, 201]
    assert dead_letters(database_urls) == [("Unreadable", 1)]


async def test_an_entry_that_is_no_change_becomes_one_letter_however_often_it_is_delivered(
    process: processes.Process, database_urls: DatabaseUrls
) -> None:
    other = ids.TenantId(uuid.UUID(int=2))
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'b')", (other,))
        owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (other,))
    for tenant in (TENANT, TENANT, other):  # the first time its worker dies before it takes it out
        process.redis.xadd(keys.changes(tenant), {"c": b"\xff nonsense"}, id="1764000000000-7")
        drains.Drain(process, tenant).run()
        process.redis.delete(keys.changes(tenant))
    with psycopg.connect(database_urls.owner) as owner:
        letters = owner.execute("SELECT tenant, change_id FROM dead_letters ORDER BY tenant").fetchall()
        logged = owner.execute("SELECT tenant, change_id FROM change_log ORDER BY tenant").fetchall()
    assert letters == logged
    assert [tenant for tenant, _ in letters] == [TENANT, other]
    assert len({change_id for _, change_id in letters}) == 2
    for _, change_id in letters:
        assert (change_id.version, change_id.variant) == (7, uuid.RFC_4122)
        assert histories.moment_of(change_id) == records.EPOCH + datetime.timedelta(seconds=1764000000)


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the drain's own runs after it."""


async def test_a_change_that_kills_its_worker_is_found_and_buried(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = process.store.apply

    def deadly(tenant: Any, epoch: Any, registry: Any, entries: Any) -> Any:
        if any(change.body["userName"] == "killer@x" for _, change in entries):
            raise Killed
        return apply(tenant, epoch, registry, entries)

    monkeypatch.setattr(process.store, "apply", deadly)
    await append(redis_url, create("a@x"), create("killer@x"), create("c@x"))
    deaths = 0
    for _ in range(20):
        try:
            drains.Drain(process, TENANT).run()
            break
        except Killed:
            deaths += 1
    # Twice with its whole batch, then as often alone as is allowed.
    assert deaths == drains.DEATHS_OF_A_BATCH + process.settings.alone_attempts
    assert answers(process) == [201, 500, 201]
    assert dead_letters(database_urls) == [("WorkerDied", 2)]


async def test_an_away_store_costs_no_attempt_and_loses_nothing(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, failures = process.store.apply, iter(range(5))

    def flaky(*args: Any) -> Any:
        if next(failures, None) is not None:
            raise errors.StoreUnavailable("gone")
        return apply(*args)

    monkeypatch.setattr(process.store, "apply", flaky)
    monkeypatch.setattr(holds, "FIRST_PAUSE", 0.001)
    await append(redis_url, create("a@x"))
    assert drains.Drain(process, TENANT).run() == "idle"
    assert answers(process) == [201]
    assert dead_letters(database_urls) == []


async def test_a_drain_whose_wake_was_taken_over_leaves_the_stream_alone(
    process: processes.Process, redis_url: str
) -> None:
    await append(redis_url, create("a@x"))
    old = drains.Drain(process, TENANT)
    old._open()
    young = drains.Drain(process, TENANT)
    young._open()
    with pytest.raises(errors.DrainSuperseded):
        old._loop(0.0)
    assert process.redis.xlen(keys.changes(TENANT)) == 1
    assert young._loop(0.0) == "idle"
    assert answers(process) == [201]


async def test_changes_applied_but_not_settled_are_answered_again_not_applied_again(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    change = create("a@x")
    await append(redis_url, change)
    store = batches.Connection(database_urls.app)
    epoch = store.raise_epoch(TENANT)
    store.apply(TENANT, epoch, process.registries.kept(TENANT), [("1-0", change)])  # and then it died
    store.close()
    drains.Drain(process, TENANT).run()
    [reply] = process.redis.lrange(REPLIES, 0, -1)
    assert isinstance(reply, bytes)
    outcome = records.Outcome.decode(reply)
    assert (outcome.status, outcome.version) == (201, 1)
    assert outcome.document is not None
    assert outcome.document["userName"] == "a@x"
    with psycopg.connect(database_urls.owner) as admin:
        assert admin.execute("SELECT count(*) FROM resources").fetchone() == (1,)
        assert admin.execute("SELECT count(*) FROM change_log").fetchone() == (1,)


async def test_a_busy_drain_hands_over_when_others_wait(process: processes.Process, redis_url: str) -> None:
    process.settings = process.settings.model_copy(update={"drain_slice": 0.0})
    await append(redis_url, *(create(f"{n}@x") for n in range(10)))
    jobs.enqueue(jobs.queue(process.redis), ids.TenantId(uuid.UUID(int=2)))
    assert drains.Drain(process, TENANT).run() == "handed over"
    assert len(answers(process)) == process.settings.batch_size
    waiting = jobs.queue(process.redis).get_jobs()
    assert [job.args[0] for job in waiting] == [str(uuid.UUID(int=2)), str(TENANT)]


@pytest.fixture
def others(process: processes.Process, database_urls: DatabaseUrls) -> Iterator[list[ids.TenantId]]:
    """Two more tenants, whose jobs wait in the process that runs jobs."""
    made = [ids.TenantId(uuid.UUID(int=number)) for number in (2, 3)]
    with psycopg.connect(database_urls.owner) as owner:
        for one in made:
            owner.execute(
                "INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', %s)", (one, str(one))
            )
            owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (one,))
    for one in made:
        jobs.enqueue(jobs.queue(process.redis), one)
    processes.enter(process)
    yield made
    process.redis.delete(keys.JOBS)


async def test_a_job_goes_on_with_the_tenants_that_wait(
    process: processes.Process, redis_url: str, others: list[ids.TenantId], database_urls: DatabaseUrls
) -> None:
    for tenant in (*others, TENANT):
        await append(redis_url, create("a@x"), tenant=tenant)
    counted, beats = [], []
    process.count = lambda: bool(counted.append(None))
    process.beat = lambda: beats.append(None)
    drains.drain(str(TENANT))
    assert answers(process) == [201, 201, 201]
    assert process.redis.llen(keys.JOBS) == 0
    assert len(counted) == 3
    assert len(beats) >= 3  # however short each turn is
    with psycopg.connect(database_urls.owner) as owner:
        found = owner.execute("SELECT tenant FROM resources ORDER BY created_at").fetchall()
    assert found == [(TENANT,), *((one,) for one in others)]


async def test_a_job_ends_when_its_process_has_done_enough(
    process: processes.Process, redis_url: str, others: list[ids.TenantId]
) -> None:
    process.count = lambda: True
    drains.drain(str(TENANT))
    assert [job.args[0] for job in jobs.queue(process.redis).get_jobs()] == [str(one) for one in others]


async def test_a_job_ends_when_one_drain_would(
    process: processes.Process, redis_url: str, others: list[ids.TenantId]
) -> None:
    process.settings = process.settings.model_copy(update={"drain_lifetime": 0.0})
    drains.drain(str(TENANT))
    assert process.redis.llen(keys.JOBS) == len(others)


async def test_a_drain_has_no_more_time_than_its_job_has_left(
    process: processes.Process, redis_url: str
) -> None:
    await append(redis_url, *(create(f"{n}@x") for n in range(10)))
    assert drains.Drain(process, TENANT, until=time.monotonic()).run() == "handed over"
    assert len(answers(process)) == process.settings.batch_size
    assert [job.args[0] for job in jobs.queue(process.redis).get_jobs()] == [str(TENANT)]


@pytest.mark.parametrize(
    "failure", [errors.StoreUnavailable("away"), errors.QueueUnavailable("away"), ZeroDivisionError()]
)
async def test_a_tenant_that_was_taken_waits_again_when_its_drain_fails(
    process: processes.Process,
    redis_url: str,
    others: list[ids.TenantId],
    monkeypatch: pytest.MonkeyPatch,
    failure: Exception,
) -> None:
    raise_epoch = process.store.raise_epoch

    def fail(tenant: ids.TenantId) -> int:
        if tenant == TENANT:
            return raise_epoch(tenant)
        process.stopping.set()  # while the store is away a drain insists until it has to end
        raise failure

    monkeypatch.setattr(process.store, "raise_epoch", fail)
    drains.drain(str(TENANT))  # it is not this one that failed
    waiting = jobs.queue(process.redis).get_jobs()
    assert [job.args[0] for job in waiting] == [str(others[1]), str(others[0])]
    assert [job.retries_left for job in waiting] == [jobs.RETRIES, jobs.RETRIES - 1]


async def test_a_job_ends_well_when_the_queue_goes_away_between_two_tenants(
    process: processes.Process, redis_url: str, others: list[ids.TenantId], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(client: Any) -> None:
        raise errors.QueueUnavailable("away")

    monkeypatch.setattr(jobs, "take", away)
    await append(redis_url, create("a@x"))
    drains.drain(str(TENANT))
    assert answers(process) == [201]


async def test_a_backlog_older_than_a_request_waits_takes_no_more(redis_url: str) -> None:
    await append(redis_url, create("a@x"))
    with pytest.raises(appends.Backlogged):
        await append(redis_url, create("b@x"), oldest=-1)


async def test_the_sweep_wakes_whom_nobody_wakes_and_forgets_the_idle(
    process: processes.Process, redis_url: str
) -> None:
    await append(redis_url, create("a@x"))
    process.redis.delete(keys.wake(TENANT))  # its drain died, and the wake ran out
    found = backlogs.Backlogs(process.redis)
    [backlog] = found.read()
    assert (backlog.tenant, backlog.pending, backlog.awake) == (TENANT, 1, False)
    assert found.wake(backlog)
    assert not found.wake(backlog)
    assert [job.args[0] for job in jobs.queue(process.redis).get_jobs()] == [str(TENANT)]
    drains.Drain(process, TENANT).run()
    process.redis.sadd(keys.PENDING, str(TENANT))
    assert found.read() == []
    assert not process.redis.sismember(keys.PENDING, str(TENANT))


async def test_the_changes_of_a_deleted_tenant_are_dropped(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    promised = create("b@x", promised=True)
    await append(redis_url, create("a@x"), promised)
    process.redis.hset(keys.inbox(TENANT), str(promised.change_id), "1-1")
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("UPDATE tenants SET deleted_at = now()")
    assert drains.Drain(process, TENANT).run() == "tenant gone"
    assert process.redis.keys(f"usher:{{{TENANT}}}:*") == []
    assert answers(process) == []


async def test_a_tenant_that_waits_long_in_the_queue_gets_no_second_job(
    process: processes.Process, redis_url: str
) -> None:
    assert await append(redis_url, create("a@x")) == [True]
    jobs.enqueue(jobs.queue(process.redis), TENANT)
    # Its wake is old, but its job still stands in the queue, so the wake is kept.
    old = keys.WAKE_QUEUED - keys.WAKE_LOST - 1000
    process.redis.pexpire(keys.wake(TENANT), old)
    found = backlogs.Backlogs(process.redis)
    assert [backlog.awake for backlog in found.read()] == [True]
    assert process.redis.pttl(keys.wake(TENANT)) > old
    process.redis.delete(keys.wake(TENANT))
    assert [backlog.awake for backlog in found.read()] == [True]
    assert await append(redis_url, create("b@x")) == [False]
    # The job is gone, for whoever took it sleeps; others wait.
    process.redis.delete(keys.JOBS)
    jobs.enqueue(jobs.queue(process.redis), ids.TenantId(uuid.UUID(int=2)))
    process.redis.pexpire(keys.wake(TENANT), old)
    [backlog] = found.read()
    assert not backlog.awake
    assert found.wake(backlog)
    assert not found.wake(backlog)
    assert process.redis.llen(keys.JOBS) == 2


async def test_an_older_drain_can_not_take_the_wake_back(process: processes.Process, redis_url: str) -> None:
    await append(redis_url, create("a@x"))
    old, young = streams.Tail(process.redis, TENANT), streams.Tail(process.redis, TENANT)
    old.open()
    young.open()
    assert not old.renew()
    old.hand_over(keys.WAKE_QUEUED)
    assert young.renew()


async def test_one_reply_that_can_not_be_read_costs_only_itself(redis_url: str) -> None:
    async with connections.connect_async(redis_url) as client:
        waiting = replies.Replies(client)
        change = create("a@x")
        reading = asyncio.create_task(waiting.run())
        with waiting.expect(change.change_id) as reply:
            await client.rpush(waiting.key, b"nonsense", records.Outcome(change.change_id, 201).encode())
            assert (await asyncio.wait_for(reply, 5)).status == 201
        reading.cancel()


async def test_requests_of_many_tenants_learn_at_once_that_valkey_is_away() -> None:
    async with connections.connect_async("redis://127.0.0.1:1/0") as client:
        appender = appends.Appender(client, nothing_promised, oldest=60)
        tenants = [ids.TenantId(uuid.UUID(int=number)) for number in range(50)]
        results = await asyncio.wait_for(
            asyncio.gather(
                *(appender.append(one, appends.Item(create("a@x").encode())) for one in tenants),
                return_exceptions=True,
            ),
            5,
        )
    assert {type(result) for result in results} == {errors.QueueUnavailable}


async def test_a_batch_that_postgresql_gives_up_on_again_and_again_is_applied_one_by_one(
    process: processes.Process, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = process.store.apply

    def only_alone(tenant: Any, epoch: Any, registry: Any, entries: Any) -> Any:
        if len(entries) > 1:
            raise errors.StoreUnavailable("canceling statement due to statement timeout")
        return apply(tenant, epoch, registry, entries)

    monkeypatch.setattr(process.store, "apply", only_alone)
    monkeypatch.setattr(holds, "FIRST_PAUSE", 0.001)
    await append(redis_url, *(create(f"{n}@x") for n in range(4)))
    assert drains.Drain(process, TENANT).run() == "idle"
    assert answers(process) == [201] * 4


async def test_a_batch_holds_no_more_than_its_bytes(
    process: processes.Process, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    apply = process.store.apply

    def counting(tenant: Any, epoch: Any, registry: Any, entries: Any) -> Any:
        sizes.append(len(entries))
        return apply(tenant, epoch, registry, entries)

    monkeypatch.setattr(process.store, "apply", counting)
    monkeypatch.setattr(holds, "BATCH_BYTES", len(create("0@x").encode()) * 2)
    await append(redis_url, *(create(f"{n}@x") for n in range(4)))
    drains.Drain(process, TENANT).run()
    assert sizes == [2, 2]
