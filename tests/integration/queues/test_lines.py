"""A line is one connection: answers come in the order of what was sent, also after it was lost."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Iterator

import pytest
import redis
import redis.asyncio

from usher_core import errors, ids
from usher_core.queues import connections, keys, lines, streams

TENANT = ids.TenantId(uuid.UUID(int=1))


@pytest.fixture
def other(redis_url: str) -> Iterator[redis.Redis]:
    made = connections.connect(redis_url)
    yield made
    made.close()


def end_all_but(other: redis.Redis) -> None:
    """Let the server end every connection but this one."""
    other.execute_command("CLIENT", "KILL", "TYPE", "NORMAL", "SKIPME", "YES")


def test_answers_come_in_the_order_of_what_was_sent(client: redis.Redis) -> None:
    line = lines.Line(client)
    line.send([("SET", "a", 1), ("INCR", "a")])
    line.send([("GET", "a")])
    assert line.receive() == [b"OK", 2, b"2"]
    assert line.receive() == []


def test_a_refused_command_takes_no_other_answer_away(client: redis.Redis) -> None:
    line = lines.Line(client)
    line.send([("SET", "a", "x"), ("INCR", "a"), ("GET", "a")])
    with pytest.raises(redis.ResponseError):
        line.receive()
    line.send([("GET", "a")])
    assert line.receive() == [b"x"]


def test_a_connection_that_ended_while_it_lay_idle_is_replaced(
    client: redis.Redis, other: redis.Redis
) -> None:
    line = lines.Line(client)
    line.send([("SET", "a", 1)])
    line.receive()
    end_all_but(other)
    line.send([("GET", "a")], idle=True)
    assert line.receive() == [b"1"]


def test_what_was_lost_with_the_connection_is_told_and_the_next_command_works(
    client: redis.Redis, other: redis.Redis
) -> None:
    line = lines.Line(client)
    line.send([("BLPOP", "nothing", 5)])
    end_all_but(other)
    with pytest.raises(redis.ConnectionError):
        line.receive()
    line.send([("PING",)])
    assert line.receive() == [b"PONG"]


def test_answers_that_nobody_read_are_nobody_elses(client: redis.Redis) -> None:
    line = lines.Line(client)
    line.send([("ECHO", "mine")])
    line.close()
    assert client.echo("yours") == b"yours"
    line.send([("ECHO", "again")])
    assert line.receive() == [b"again"]


async def test_who_gave_up_leaves_no_answer_for_the_next(redis_url: str) -> None:
    async with contextlib.aclosing(connections.connect_async(redis_url)) as client:
        line = lines.AsyncLine(client)
        asking = asyncio.create_task(line.ask("BLPOP", "late", 5))
        await asyncio.sleep(0.05)
        asking.cancel()
        await asyncio.wait([asking])
        await client.rpush("late", "for nobody")
        assert await line.ask("ECHO", "mine") == b"mine"


async def test_an_asynchronous_line_replaces_what_ended(redis_url: str, other: redis.Redis) -> None:
    async with contextlib.aclosing(connections.connect_async(redis_url)) as client:
        line = lines.AsyncLine(client)
        assert await line.ask("SET", "a", 1) == b"OK"
        with pytest.raises(redis.ResponseError):
            await line.ask("LPUSH", "a", 1)
        end_all_but(other)
        await asyncio.sleep(0.05)  # until the event loop has seen the end
        assert await line.ask("GET", "a") == b"1"


async def test_a_server_that_never_answers_is_given_up(
    redis_url: str, other: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SOCKET_TIMEOUT", 0.2)
    async with contextlib.aclosing(connections.connect_async(redis_url)) as client:
        line = lines.AsyncLine(client)
        with pytest.raises(TimeoutError):
            await line.ask("BLPOP", "nothing", 5)
        monkeypatch.undo()
        assert await line.ask("PING") == b"PONG"


def test_what_settles_goes_out_at_once(client: redis.Redis, other: redis.Redis) -> None:
    tail = streams.Tail(client, TENANT)
    position = other.xadd(keys.changes(TENANT), {"c": b"x"}).decode()
    tail.settle([position], [("usher:replies:test", b"done")])
    assert other.blpop(["usher:replies:test"], 5) == (b"usher:replies:test", b"done")
    assert tail.take(1, block=0).entries == []
    tail.close()


def test_what_settles_finds_a_connection_that_ended_replaced(client: redis.Redis, other: redis.Redis) -> None:
    tail = streams.Tail(client, TENANT)
    first, second = (other.xadd(keys.changes(TENANT), {"c": data}).decode() for data in (b"1", b"2"))
    assert [at for at, _ in tail.take(1, block=0).entries] == [first]
    end_all_but(other)
    tail.settle([first], [("usher:replies:test", b"done")])
    # It was ended while the drain was busy elsewhere.
    assert other.lrange("usher:replies:test", 0, -1) == [b"done"]
    assert [at for at, _ in tail.take(1, block=0).entries] == [second]
    tail.close()


def test_what_is_lost_on_the_way_is_settled_by_the_next_take(client: redis.Redis, other: redis.Redis) -> None:
    tail = streams.Tail(client, TENANT)
    first, second = (other.xadd(keys.changes(TENANT), {"c": data}).decode() for data in (b"1", b"2"))
    assert [at for at, _ in tail.take(1, block=0).entries] == [first]
    tail.settle([first], [("usher:replies:test", b"done")])
    end_all_but(other)
    with pytest.raises(errors.QueueUnavailable):
        tail.take(1, block=0)
    assert [at for at, _ in tail.take(1, block=0).entries] == [second]
    assert set(other.lrange("usher:replies:test", 0, -1)) == {b"done"}
    tail.close()
