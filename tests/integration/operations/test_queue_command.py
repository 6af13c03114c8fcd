"""`usher queue` tells what waits, how old it is, how fast it goes, and who works."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import orjson
import psycopg
import pytest

from usher_core import ids
from usher_core.queues import keys

if TYPE_CHECKING:
    from conftest import Acme, Usher

LABEL = "test/acme"


def test_a_quiet_service_shows_no_tenant_unless_asked(usher: Usher) -> None:
    assert usher.json("queue")["tenants"] == []
    [shown] = usher.json("queue", "--all")["tenants"]
    assert (shown["tenant"], shown["pending"], shown["drain"]) == (LABEL, 0, "idle")
    assert "Nothing waits" in usher("queue").stdout


def test_what_waits_what_was_applied_and_what_is_dead_is_counted(acme: Acme, usher: Usher) -> None:
    acme.apply(*(acme.change("delete", ids.new_uuid()) for _ in range(5)))
    acme.bury()
    acme.queue(*(acme.change("delete", ids.new_uuid()) for _ in range(3)))
    time.sleep(0.05)
    [shown] = usher.json("queue")["tenants"]
    assert (shown["pending"], shown["deadLetters"], shown["appliedPerSecond"]) == (3, 1, 0.1)
    assert 0.05 <= shown["oldestSeconds"] < 30
    text = usher("queue").stdout
    assert "pending 3  dead letters 1" in text
    assert text.splitlines()[-1].split()[:2] == [LABEL, "3"]


@pytest.mark.parametrize(
    ("wake", "life", "state"),
    [
        pytest.param(None, 0, "lost", id="nobody was woken"),
        pytest.param("queued", keys.WAKE_QUEUED, "queued", id="a job is on its way"),
        pytest.param("queued", 30_000, "lost", id="the job is gone"),
        pytest.param("0123", keys.WAKE_RUNNING, "running", id="a drain is at work"),
    ],
)
def test_the_drain_of_a_tenant_is_told(
    acme: Acme, usher: Usher, wake: str | None, life: int, state: str
) -> None:
    acme.queue(acme.change("delete", ids.new_uuid()))
    if wake is not None:
        acme.process.redis.set(keys.wake(acme.tenant), wake, px=life)
    [shown] = usher.json("queue")["tenants"]
    assert shown["drain"] == state


def test_looking_changes_nothing(acme: Acme, usher: Usher) -> None:
    acme.process.redis.sadd(keys.PENDING, str(acme.tenant))
    usher("queue")
    assert acme.process.redis.sismember(keys.PENDING, str(acme.tenant))


def test_changes_of_a_tenant_that_is_gone_are_seen(acme: Acme, usher: Usher) -> None:
    acme.queue(acme.change("delete", ids.new_uuid()))
    acme.ask("DELETE FROM tenants RETURNING 1")
    [shown] = usher.json("queue")["tenants"]
    assert (shown["tenant"], shown["id"], shown["pending"]) == (None, str(acme.tenant), 1)
    assert "(gone)" in usher("queue").stdout


def test_workers_count_while_they_live(acme: Acme, usher: Usher) -> None:
    for name, state in (("rq:worker:a", "busy"), ("rq:worker:b", "idle")):
        acme.process.redis.hset(name, "state", state)
    acme.process.redis.sadd("rq:workers:usher", "rq:worker:a", "rq:worker:b", "rq:worker:killed")
    shown = usher.json("queue")
    assert (shown["workers"], shown["busyWorkers"], shown["queuedJobs"]) == (2, 1, 0)


def test_a_thousand_tenants_are_looked_at_in_a_second(acme: Acme, usher: Usher) -> None:
    with psycopg.connect(acme.urls.owner) as owner:
        owner.execute(
            "INSERT INTO tenants (tenant, namespace, name)"
            " SELECT gen_random_uuid(), 'many', 't' || n FROM generate_series(1, 1000) n"
        )
    usher("queue")
    begin = time.perf_counter()
    assert len(usher.json("queue", "--all")["tenants"]) == 1001
    assert time.perf_counter() - begin < 3.0  # two loaded cores; alone it takes half a second


def test_watching_writes_a_line_a_round_for_programs_until_ctrl_c(usher: Usher) -> None:
    code = "from usher_core.operations.commands import queue; queue(prog_name='usher queue')"
    watching = subprocess.Popen(
        (sys.executable, "-c", code, "--watch", "--interval", "0.2", "--json"),
        env=os.environ | usher.env,
        stdout=subprocess.PIPE,
    )
    assert watching.stdout is not None
    lines = [watching.stdout.readline() for _ in range(3)]
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=10)
    assert watching.returncode == 130
    assert all(orjson.loads(line)["tenants"] == [] for line in lines)
