"""The embedded servers keep their data and their word through restarts, kills and crowded machines."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from usher_core import errors
from usher_core.embedded import kept_servers
from usher_core.embedded.kept_servers import KeptServer
from usher_core.embedded.servers import PostgresServer, ValkeyServer
from usher_core.testing import processes

EACH_SERVER = pytest.mark.parametrize(
    "kind", [pytest.param(PostgresServer, id="postgres"), pytest.param(ValkeyServer, id="valkey")]
)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user can't change to another account")

STARTING = """
import sys, time
from pathlib import Path
from usher_core.testing import servers
started = servers.start_servers(Path(sys.argv[1]))
print(started.postgres.pid, started.valkey.pid, started.database.owner, started.redis_url, flush=True)
sys.stdin.read()
started.stop()
"""


def remember(server: KeptServer) -> None:
    if isinstance(server, PostgresServer):
        with psycopg.connect(server.url) as connection:
            connection.execute("CREATE TABLE remembered AS SELECT 'yes' AS word")
    else:
        with redis.Redis.from_url(server.url) as client:
            client.set("remembered", "yes")


def recall(server: KeptServer) -> str | None:
    if isinstance(server, PostgresServer):
        with psycopg.connect(server.url) as connection:
            row = connection.execute("SELECT word FROM remembered").fetchone()
            return None if row is None else str(row[0])
    with redis.Redis.from_url(server.url, decode_responses=True) as client:
        word = client.get("remembered")
        return None if word is None else str(word)


@EACH_SERVER
def test_data_outlives_stop_and_kill_on_the_same_port(kind: type[KeptServer], tmp_path: Path) -> None:
    with kind(tmp_path / "data") as server:
        remember(server)
        first_pid, url = server.pid, server.url
    assert not processes.is_alive(first_pid)

    with kind(tmp_path / "data") as server:
        assert (recall(server), server.url) == ("yes", url)
        family = processes.family(server.pid)
        server.kill()
        server.start()
        assert processes.wait_until_gone(family) == []
        assert (recall(server), server.url) == ("yes", url)
        second_pid = server.pid
    assert not processes.is_alive(second_pid)


def test_a_start_that_follows_a_kill_waits_for_the_last_process_of_the_killed_server(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "data") as server, psycopg.connect(server.url) as connection:
        backend = connection.info.backend_pid
        # It can't notice the death of its postmaster before it goes on.
        os.kill(backend, signal.SIGSTOP)
        server.kill()
        go_on = subprocess.Popen(["sh", "-c", f"sleep 0.5; kill -CONT {backend}"])
        server.start()
        assert not processes.is_alive(backend)
        assert go_on.wait() == 0


def test_a_living_process_that_has_the_pid_of_a_dead_server_does_not_keep_it_from_starting(
    tmp_path: Path,
) -> None:
    with PostgresServer(tmp_path / "data") as server:
        server.kill()
        stale = tmp_path / "data" / "cluster" / "postmaster.pid"
        text = stale.read_text()
        stale.write_text(text.replace(str(server.pid), str(os.getpid()), 1))
        server.start()
        assert server.pid != os.getpid()


def test_an_initdb_that_was_killed_half_way_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    half = tmp_path / "data" / "cluster.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with PostgresServer(tmp_path / "data"):
        assert not half.exists()


def test_data_of_another_major_version_is_refused_with_what_to_do(tmp_path: Path) -> None:
    cluster = tmp_path / "data" / "cluster"
    cluster.mkdir(parents=True)
    (cluster / "PG_VERSION").write_text("15\n")
    with pytest.raises(
        errors.ConfigurationInvalid, match=r"data of PostgreSQL 15, but PostgreSQL 18.*or move"
    ):
        PostgresServer(tmp_path / "data").start()


@EACH_SERVER
def test_a_second_server_on_the_same_folder_is_told_who_has_it(
    kind: type[KeptServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_servers, "_LOCK_PATIENCE", 0.1)
    with kind(tmp_path / "data") as server:
        with pytest.raises(errors.ConfigurationInvalid, match=rf"{kind.name} already runs.*{os.getpid()}"):
            kind(tmp_path / "data").start()
        assert processes.is_alive(server.pid)


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@EACH_SERVER
def test_a_port_that_was_asked_for_and_is_taken_is_told(
    kind: type[KeptServer], tmp_path: Path, taken_port: int
) -> None:
    with pytest.raises(errors.ConfigurationInvalid, match=f"port {taken_port} .* taken"):
        kind(tmp_path / "data", port=taken_port).start()


@EACH_SERVER
def test_a_port_that_is_taken_between_look_and_start_leads_to_another(
    kind: type[KeptServer], tmp_path: Path, taken_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter([True])  # the first look is wrong, as if the port had been taken just after it
    real = kept_servers.ports.is_free
    monkeypatch.setattr(kept_servers.ports, "is_free", lambda *args: next(looks, False) or real(*args))
    (tmp_path / "data").mkdir(mode=0o700)
    (tmp_path / "data" / "port").write_text(str(taken_port))
    with kind(tmp_path / "data") as server:
        assert server.port != taken_port
        assert (tmp_path / "data" / "port").read_text() == str(server.port)


@EACH_SERVER
def test_only_who_knows_the_password_and_is_on_this_machine_gets_in(
    kind: type[KeptServer], tmp_path: Path
) -> None:
    with kind(tmp_path / "data") as server:
        heard = {found.laddr.ip for found in psutil.Process(server.pid).net_connections("inet")}
        assert heard == {"127.0.0.1"}
        assert psutil.Process(server.pid).net_connections("unix") == []
        assert server.password not in " ".join(psutil.Process(server.pid).cmdline())
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        assert stat.S_IMODE((tmp_path / "data" / "password").stat().st_mode) == 0o600
        wrong = server.url.replace(server.password, "wrong")
        if kind is PostgresServer:
            with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
                psycopg.connect(wrong)
        else:
            with redis.Redis.from_url(wrong) as client, pytest.raises(redis.AuthenticationError):
                client.ping()


def test_commits_are_durable_and_the_queue_never_drops_entries(tmp_path: Path) -> None:
    with PostgresServer(tmp_path / "p") as postgres, psycopg.connect(postgres.url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        assert connection.execute("SHOW synchronous_commit").fetchone() == ("on",)
    with ValkeyServer(tmp_path / "v") as valkey, redis.Redis.from_url(valkey.url) as client:
        told = client.config_get("appendonly", "appendfsync", "maxmemory-policy", "save")
    assert told == {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",
        "save": "",
    }


@pytest.fixture
def start_elsewhere(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start both servers from another process, which answers one line and stops at the end of its input."""
    started: list[subprocess.Popen[str]] = []

    def start(folder: Path, *prefix: str, path: str | None = None) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*prefix, sys.executable, "-c", textwrap.dedent(STARTING), str(folder)],
            env={**os.environ, "PATH": path or os.environ["PATH"]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def told_by(process: subprocess.Popen[str]) -> tuple[list[int], str]:
    assert process.stdout is not None
    postgres, valkey, owner, _ = process.stdout.readline().split()
    return [int(postgres), int(valkey)], owner


def test_a_killed_parent_leaves_nothing_and_the_next_start_and_stop_work(
    tmp_path: Path, start_elsewhere: Callable[..., subprocess.Popen[str]]
) -> None:
    first = start_elsewhere(tmp_path)
    pids, owner = told_by(first)
    with psycopg.connect(owner) as connection:
        connection.execute("CREATE TABLE kept ()")
    family = processes.family(first.pid)
    assert set(pids) < set(family)
    first.kill()
    assert processes.wait_until_gone(family) == []

    second = start_elsewhere(tmp_path)
    pids, owner = told_by(second)
    with psycopg.connect(owner) as connection:
        assert connection.execute("TABLE kept").fetchall() == []
    family = processes.family(second.pid)
    second.communicate(timeout=10)
    assert second.returncode == 0
    assert processes.wait_until_gone(family, timeout=1) == []


def test_a_start_right_after_the_kill_of_the_parent_waits_for_its_servers_to_end(
    tmp_path: Path, start_elsewhere: Callable[..., subprocess.Popen[str]]
) -> None:
    first = start_elsewhere(tmp_path)
    before, _ = told_by(first)
    for pid in before:  # their end takes a while
        os.kill(pid, signal.SIGSTOP)
    first.kill()
    second = start_elsewhere(tmp_path)
    after, _ = told_by(second)
    assert not set(before) & set(after)
    assert [pid for pid in before if processes.is_alive(pid)] == []


@as_root
@pytest.mark.skipif(shutil.which("unshare") is None, reason="there is no other way to be a user in place")
@pytest.mark.parametrize(
    "uid",
    [
        pytest.param(min(entry.pw_uid for entry in pwd.getpwall() if entry.pw_uid > 0), id="with a name"),
        pytest.param(987_654, id="that the machine does not know"),
    ],
)
def test_an_ordinary_user_runs_them(
    uid: int, tmp_path: Path, start_elsewhere: Callable[..., subprocess.Popen[str]]
) -> None:
    process = start_elsewhere(tmp_path, "unshare", "--user", f"--map-user={uid}", f"--map-group={uid}", "--")
    pids, _ = told_by(process)
    assert all(processes.is_alive(pid) for pid in pids)
    process.communicate(timeout=10)
    assert process.returncode == 0
    assert processes.wait_until_gone(pids, timeout=1) == []


@as_root
def test_where_namespaces_are_refused_root_runs_them_under_an_account_that_owns_only_their_folder(
    tmp_path_factory: pytest.TempPathFactory, start_elsewhere: Callable[..., subprocess.Popen[str]]
) -> None:
    # Not below the usual folder of a test, which is closed to every other account.
    folder = Path("/var/tmp") / f"usher-{os.getpid()}-{tmp_path_factory.mktemp('x').name}"
    folder.mkdir(mode=0o755)
    try:
        for _ in ("first start", "second start"):
            process = start_elsewhere(folder, path=str(folder))  # there is no `unshare` on this path
            pids, _ = told_by(process)
            for pid in pids:
                assert psutil.Process(pid).uids().real != 0
            assert (folder / "postgres").stat().st_uid == psutil.Process(pids[0]).uids().real
            process.communicate(timeout=10)
            assert process.returncode == 0
            assert processes.wait_until_gone(pids, timeout=1) == []
        assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (0, 0o755)
    finally:
        shutil.rmtree(folder)
