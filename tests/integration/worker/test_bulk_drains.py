"""A bulk comes to the same end, each operation applied once, wherever a worker stops on its way."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from usher_core import errors, ids, settings
from usher_core.changes import bulks, progresses, records, snapshots
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import appends, connections, keys
from usher_core.scim import documents, schemas, sequences
from usher_worker import drains, holds, processes

REGISTRY = schemas.default()
TENANT = ids.TenantId(uuid.UUID(int=1))
REPLIES = "usher:replies:test"
BATCH = 3


@pytest.fixture(autouse=True)
def tenant(database_urls: DatabaseUrls) -> None:
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
        owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (TENANT,))


@pytest.fixture
def process(database_urls: DatabaseUrls, redis_url: str) -> Iterator[processes.Process]:
    config = settings.Settings(
        database_url=database_urls.app,
        redis_url=redis_url,
        drain_linger=0.0,
        alone_attempts=2,
        batch_size=BATCH,
    )
    opened = processes.Process(config)
    yield opened
    opened.close()


def rid(number: int) -> ids.ResourceId:
    return ids.ResourceId(uuid.UUID(int=number))


def change(operation: records.Operation, number: int, kind: str = "User", body: Any = None) -> records.Change:
    if isinstance(body, dict):
        body = documents.normalise(REGISTRY.by_name(kind), body)
    return records.Change(
        ids.ChangeId(ids.new_uuid()),
        records.now(),
        operation,
        kind,
        rid(number),
        body,
        None,
        "t",
        "r",
        REPLIES,
    )


def user(number: int, name: str | None = None) -> records.Change:
    return change("create", number, body={"userName": name or f"u{number}@x.io"})


def group(number: int, *members: int) -> records.Change:
    named = [{"value": str(rid(member))} for member in members]
    return change("create", number, "Group", {"displayName": f"g{number}", "members": named})


def retitle(number: int, title: str) -> records.Change:
    return change("patch", number, body=[{"op": "replace", "path": "title", "value": title}])


Content = records.Change | records.Outcome


def bulk_of(
    *operations: Content | tuple[Content, tuple[int, ...]], fail_on_errors: int | None = None
) -> records.Change:
    """Pack operations as the api does; those that need others come with the places of these."""
    own = dataclasses.replace(change("bulk", 0, ""), resource_id=snapshots.NO_RESOURCE)
    parts = []
    for index, given in enumerate(operations):
        content, needs = given if isinstance(given, tuple) else (given, ())
        parts.append(bulks.Part(index, content, needs))
    steps = sequences.arrange([sequences.Node(part.needs) for part in parts])
    packed = bulks.Bulk(own.change_id, fail_on_errors, tuple(tuple(parts[n] for n in one) for one in steps))
    return dataclasses.replace(own, body=packed.pack())


async def append(redis_url: str, *changes: records.Change) -> None:
    async def nothing_promised() -> bool:
        return True

    async with connections.connect_async(redis_url) as client:
        appender = appends.Appender(client, nothing_promised, oldest=60)
        for one in changes:
            await appender.append(TENANT, appends.Item(one.encode()))


def replies(process: processes.Process) -> list[records.Outcome]:
    sent = process.redis.lrange(REPLIES, 0, -1)
    return [records.Outcome.decode(data) for data in sent if isinstance(data, bytes)]


def ends(process: processes.Process) -> list[tuple[int, int, int | None]]:
    """Tell place, status and version of each operation, as the one reply does."""
    [reply] = replies(process)
    told = progresses.read_reply(reply)
    return [(index, told[index].status, told[index].version) for index in sorted(told)]


def logged(urls: DatabaseUrls) -> list[tuple[Any, ...]]:
    with psycopg.connect(urls.owner) as owner:
        return owner.execute(
            "SELECT bulk_index, status, version, operation FROM change_log ORDER BY bulk_index NULLS LAST"
        ).fetchall()


def dead_letters(urls: DatabaseUrls) -> list[tuple[str, int]]:
    with psycopg.connect(urls.owner) as owner:
        return owner.execute("SELECT reason, attempts FROM dead_letters ORDER BY failed_at").fetchall()


class Killed(BaseException):
    """Stands for SIGKILL: nothing of the drain's own runs after it."""


def drain_until_idle(process: processes.Process) -> int:
    """Drain as often as it takes; tell how often a drain was killed."""
    for deaths in range(40):
        try:
            while drains.Drain(process, TENANT).run() != "idle":
                pass
        except Killed:
            continue
        return deaths
    raise AssertionError("it never comes to an end")


def mixed() -> tuple[records.Change, list[tuple[int, int, int | None]]]:
    """Make a bulk of many kinds of ends, and tell them."""
    refusal = bulks.refusal(400, "invalidValue", "no")
    bulk = bulk_of(
        user(1),
        retitle(1, "a"),
        (group(20, 21), (3,)),
        (group(21, 20), (2,)),
        refusal,
        user(5, "U1@x.io"),
        (group(22, 5), (5,)),
        (group(23, 4), (4,)),
        retitle(1, "b"),
        change("delete", 99),
        (retitle(1, "c"), (0,)),
        user(11),
        fail_on_errors=5,
    )
    told: list[tuple[int, int, int | None]] = [
        (0, 201, 1),
        (1, 200, 2),
        (2, 201, 1),
        (3, 201, 1),
        (4, 400, None),
        (5, 409, None),
        (6, 409, None),
        (7, 409, None),
        (8, 200, 3),
        (9, 404, None),
    ]
    return bulk, told


async def test_a_bulk_is_one_reply_and_a_row_for_each_operation(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    bulk, told = mixed()
    await append(redis_url, bulk)
    assert drain_until_idle(process) == 0
    assert ends(process) == told
    rows = [(index, status, version) for index, status, version, _ in logged(database_urls)]
    begun = [one for one in told if one[0] != 4]
    assert rows == [*begun, (10, 424, None), (11, 424, None), (None, 200, None)]
    assert dead_letters(database_urls) == []
    assert not process.redis.exists(keys.attempts(TENANT))
    assert process.redis.xlen(keys.changes(TENANT)) == 0


@pytest.mark.parametrize("is_committed", [False, True], ids=["before the commit", "after it"])
@pytest.mark.parametrize("at", range(4))
async def test_a_bulk_whose_worker_is_killed_comes_to_the_same_end(
    process: processes.Process,
    redis_url: str,
    database_urls: DatabaseUrls,
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    is_committed: bool,
) -> None:
    apply, count = process.store.apply_bulk, iter(range(99))

    def deadly(*args: Any) -> Any:
        is_last = next(count) == at
        if is_last and not is_committed:
            raise Killed
        after = apply(*args)
        if is_last:
            raise Killed
        return after

    monkeypatch.setattr(process.store, "apply_bulk", deadly)
    bulk, told = mixed()
    await append(redis_url, bulk)
    assert drain_until_idle(process) == 1
    assert ends(process) == told
    assert len(logged(database_urls)) == 12


async def test_a_bulk_whose_commit_is_not_known_comes_to_the_same_end(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, count = process.store.apply_bulk, iter(range(99))

    def silent(*args: Any) -> Any:
        after = apply(*args)
        if next(count) % 2 == 0:
            raise errors.StoreUnavailable("the answer was lost")
        return after

    monkeypatch.setattr(process.store, "apply_bulk", silent)
    bulk, told = mixed()
    await append(redis_url, bulk)
    assert drain_until_idle(process) == 0
    assert ends(process) == told
    assert len(logged(database_urls)) == 12


async def test_what_a_bulk_did_not_begin_gives_back_what_it_was_to_take_away(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    await append(redis_url, user(1))
    drain_until_idle(process)
    process.redis.delete(REPLIES)
    last = change("patch", 1, body=[{"op": "replace", "path": "active", "value": False}])
    bulk = dataclasses.replace(bulk_of(user(2, "U1@x.io"), last, fail_on_errors=1), promised=True)
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute(
            "INSERT INTO fences (tenant, subject, group_id, change_id, accepted_at)"
            " VALUES (%s, %s, %s, %s, now())",
            (TENANT, rid(1), uuid.UUID(int=0), last.change_id),
        )
    await append(redis_url, bulk)
    drain_until_idle(process)
    assert ends(process) == [(0, 409, None)]
    with psycopg.connect(database_urls.owner) as owner:
        assert owner.execute("SELECT count(*) FROM fences").fetchall() == [(0,)]
        told = owner.execute("SELECT kind, resource_id FROM events ORDER BY number").fetchall()
    assert told == [("create", rid(1)), ("unrevoke", rid(1))]


async def test_a_drain_that_has_to_end_leaves_the_rest_of_a_bulk_to_the_next(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = process.store.apply_bulk

    def stopping(*args: Any) -> Any:
        process.stopping.set()
        return apply(*args)

    monkeypatch.setattr(process.store, "apply_bulk", stopping)
    await append(redis_url, bulk_of(*(user(n) for n in range(1, 8))))
    counts = []
    # With the last it has nothing left, and jobs wait: those for the rest.
    for end in ("stopped", "stopped", "idle"):
        assert drains.Drain(process, TENANT).run() == end
        assert not process.redis.hexists(keys.attempts(TENANT), "deaths")
        counts.append(len(logged(database_urls)))
        process.stopping.clear()
    assert counts == [3, 6, 8]
    assert ends(process) == [(index, 201, 1) for index in range(7)]


async def test_an_operation_that_kills_its_worker_is_found_and_buried(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = process.store.apply_bulk

    def deadly(*args: Any) -> Any:
        if any(one.resource_id == rid(5) for one in bulks.changes_of(args[-1])):
            raise Killed
        return apply(*args)

    monkeypatch.setattr(process.store, "apply_bulk", deadly)
    await append(redis_url, bulk_of(*(user(n) for n in range(1, 9))), user(9))
    deaths = drain_until_idle(process)
    assert deaths == drains.DEATHS_OF_A_BATCH + process.settings.alone_attempts
    bulk, single = replies(process)
    assert [one.status for one in progresses.read_reply(bulk).values()] == [201] * 4 + [500] + [201] * 3
    assert single.status == 201
    assert dead_letters(database_urls) == [("WorkerDied", 2)]


async def test_workers_that_are_killed_now_and_then_blame_nobody(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply, count = process.store.apply_bulk, iter(range(99))

    def unlucky(*args: Any) -> Any:
        if next(count) % 2:
            raise Killed
        return apply(*args)

    monkeypatch.setattr(process.store, "apply_bulk", unlucky)
    await append(redis_url, bulk_of(*(user(n) for n in range(1, 20))))
    assert drain_until_idle(process) > 4
    assert ends(process) == [(index, 201, 1) for index in range(19)]
    assert dead_letters(database_urls) == []


async def test_a_broken_operation_becomes_a_dead_letter_and_the_others_go_on(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    broken = change("patch", 1, body="nonsense")
    circle = [(group(20, 21), (5,)), (dataclasses.replace(group(21, 20), body=7), (4,))]
    dependent = (retitle(1, "x"), (4,))
    await append(redis_url, bulk_of(user(1), broken, user(2), user(3), *circle, dependent, user(4)))
    drain_until_idle(process)
    assert [status for _, status, _ in ends(process)] == [201, 500, 201, 201, 500, 500, 409, 201]
    assert len(dead_letters(database_urls)) == 3
    assert len(logged(database_urls)) == 9


async def test_a_bulk_whose_end_can_not_be_written_becomes_a_dead_letter_and_its_tenant_goes_on(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> None:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(progresses.Progress, "close", breaks)
    await append(redis_url, bulk_of(user(1)), user(2))
    drain_until_idle(process)
    assert [reply.status for reply in replies(process)] == [500, 201]
    ends_of = {operation: status for _, status, _, operation in logged(database_urls)}
    assert ends_of["bulk"] == 500
    assert dead_letters(database_urls)[-1] == ("ZeroDivisionError", 2)


async def test_a_bulk_that_can_not_be_read_becomes_a_dead_letter(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    wrong = dataclasses.replace(bulk_of(user(1)), body={"steps": [[[1, 2, 3]]]})
    await append(redis_url, user(2), wrong, user(3))
    drain_until_idle(process)
    assert [one.status for one in replies(process)] == [201, 500, 201]
    assert len(dead_letters(database_urls)) == 1


async def test_a_constraint_singles_out_the_operation_that_hits_it(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls
) -> None:
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("ALTER TABLE resources ADD CHECK (document ->> 'userName' <> 'u3@x.io')")
    await append(redis_url, bulk_of(*(user(n) for n in range(1, 6))))
    drain_until_idle(process)
    assert [status for _, status, _ in ends(process)] == [201, 201, 500, 201, 201]
    assert dead_letters(database_urls) == [("CheckViolation", 2)]


async def test_an_operation_that_always_takes_too_long_becomes_a_dead_letter(
    process: processes.Process, redis_url: str, database_urls: DatabaseUrls, monkeypatch: pytest.MonkeyPatch
) -> None:
    apply = process.store.apply_bulk

    def slow(*args: Any) -> Any:
        if any(one.resource_id == rid(2) for one in bulks.changes_of(args[-1])):
            raise errors.StoreTimedOut("too long")
        return apply(*args)

    monkeypatch.setattr(process.store, "apply_bulk", slow)
    monkeypatch.setattr(holds, "FIRST_PAUSE", 0.001)
    await append(redis_url, bulk_of(*(user(n) for n in range(1, 5))))
    assert drain_until_idle(process) == 0
    assert [status for _, status, _ in ends(process)] == [201, 500, 201, 201]
    assert dead_letters(database_urls) == [("TimedOut", 3)]


async def test_a_bulk_is_taken_alone_and_keeps_its_place_in_the_stream(
    process: processes.Process, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    apply = process.store.apply

    def counting(*args: Any) -> Any:
        sizes.append(len(args[-1]))
        return apply(*args)

    monkeypatch.setattr(process.store, "apply", counting)
    bulk = bulk_of(retitle(1, "b"), retitle(1, "c"))
    await append(redis_url, user(1), retitle(1, "a"), bulk, bulk_of(user(2)), retitle(1, "d"))
    drain_until_idle(process)
    assert sizes == [2, 1]
    first, second, third, fourth, fifth = replies(process)
    assert [first.version, second.version, fifth.version] == [1, 2, 5]
    assert [one.version for one in progresses.read_reply(third).values()] == [3, 4]
    assert [one.version for one in progresses.read_reply(fourth).values()] == [1]


def test_a_bulk_unpacked_is_the_one_that_was_packed(database_urls: DatabaseUrls) -> None:
    own, _ = mixed()
    bulk = bulks.unpack(records.Change.decode(own.encode()))
    assert bulk.pack() == {**own.body, "steps": bulk.pack()["steps"]}
    assert [one.part_of for one in bulks.changes_of(bulk.steps)][:2] == [
        (own.change_id, 0),
        (own.change_id, 1),
    ]
    assert dataclasses.replace(own, body=bulk.pack()).encode() == own.encode()


def test_a_slice_ends_where_it_would_hold_too_much(database_urls: DatabaseUrls) -> None:
    own = bulk_of(*(user(n) for n in range(1, 6)), (group(20, 21), (6,)), (group(21, 20), (5,)))
    progress = progresses.begin(own, bulks.unpack(own), {})
    assert [len(step) for step in progress.upcoming(1, 10**9)] == [1]
    assert len(progress.upcoming(99, 10**9)) == 6
    assert len(progress.upcoming(6, 10**9)) == 5
    assert len(progress.upcoming(99, 1)) == 1
