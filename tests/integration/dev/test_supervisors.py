"""The supervisor keeps its children alive, tells of them, and takes all of them with it."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Queue

import psycopg
import pytest

from usher_core import errors
from usher_core.dev import supervisors
from usher_core.dev.outputs import Output
from usher_core.dev.supervisors import Child, CommandChild, Supervisor
from usher_core.embedded.servers import PostgresServer
from usher_core.testing import processes


class Stage:
    """A supervisor whose output and replacements are kept."""

    def __init__(self) -> None:
        self._stream = io.BytesIO()
        self.output = Output(self._stream)
        self.replaced: Queue[tuple[str, int]] = Queue()
        self.supervisor = Supervisor(self.output, self._note)

    def add(self, name: str, *command: str, grace: float = 5.0) -> CommandChild:
        child = CommandChild(name, command, os.environ, self.output, grace=grace)
        self.supervisor.add(child)
        return child

    def add_python(self, name: str, program: str, grace: float = 5.0) -> CommandChild:
        return self.add(name, sys.executable, "-c", textwrap.dedent(program), grace=grace)

    @property
    def lines(self) -> list[str]:
        return self._stream.getvalue().decode().splitlines()

    def wait_for(self, pattern: str, times: int = 1) -> None:
        deadline = time.monotonic() + 10
        while sum(bool(re.search(pattern, line)) for line in self.lines) < times:
            assert time.monotonic() < deadline, self.lines
            time.sleep(0.02)

    def _note(self, child: Child) -> None:
        self.replaced.put((child.name, child.pid))


@pytest.fixture
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.supervisor.stop()


def test_lines_of_children_stay_whole_and_name_their_child(stage: Stage) -> None:
    program = """
        import sys, time
        for number in range(20):
            print("{word}" * 5_000, end="", flush=True)
            print(f" {number}", file=sys.stderr, flush=True)
        time.sleep(60)
    """
    for name, word in (("one", "abc"), ("two", "xyz")):
        stage.add_python(name, textwrap.dedent(program).replace("{word}", word))
    stage.wait_for(" 19$", times=2)
    assert sorted(stage.lines) == sorted(
        [f"one      | {'abc' * 5_000} {n}" for n in range(20)]
        + [f"two      | {'xyz' * 5_000} {n}" for n in range(20)]
    )


def test_a_last_line_without_an_end_is_still_written(stage: Stage) -> None:
    child = CommandChild("one", ["printf", "last words"], os.environ, stage.output)
    child.start()
    child.wait()
    child.stop()
    assert stage.lines == ["one      | last words"]


def test_a_child_that_died_is_started_again_and_told(stage: Stage) -> None:
    child = stage.add("one", "sleep", "60")
    first = child.pid
    os.kill(first, signal.SIGKILL)
    assert stage.replaced.get(timeout=5) == ("one", child.pid)
    assert child.pid != first
    assert processes.is_alive(child.pid)
    assert stage.lines == ["usher    | one ended with status 137; starting it again in 0.2 s"]


def test_a_child_that_dies_again_and_again_is_started_ever_more_rarely(stage: Stage) -> None:
    stage.add("one", "sh", "-c", "exit 7")
    stage.wait_for("in 0.8 s")
    waits = [line.rpartition("again in ")[2] for line in stage.lines]
    assert waits[:3] == ["0.2 s", "0.4 s", "0.8 s"]


def test_the_longest_wait_before_a_new_start_is_the_limit(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisors, "_LONGEST_BACKOFF", 0.3)
    stage.add("one", "sh", "-c", "exit 7")
    stage.wait_for("in 0.3 s", times=2)


def test_a_child_that_lived_well_is_started_again_soon(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisors, "_LIVED_WELL", 0.2)
    stage.add("one", "sh", "-c", "sleep 0.3; exit 7")
    stage.wait_for("in 0.2 s", times=3)
    assert [line for line in stage.lines if "0.4" in line] == []


def test_children_are_stopped_one_after_the_other_the_last_first(stage: Stage) -> None:
    program = """
        import signal, sys, time
        def stop(*_):
            print("stopping", flush=True)
            time.sleep(0.2)
            print("stopped", flush=True)
            sys.exit()
        signal.signal(signal.SIGTERM, stop)
        print("up", flush=True)
        while True:
            time.sleep(1)
    """
    pids = [stage.add_python(name, program).pid for name in ("one", "two", "three")]
    stage.wait_for("up", times=3)
    stage.supervisor.stop()
    assert stage.lines[3:] == [
        f"{name:<9}| {word}" for name in ("three", "two", "one") for word in ("stopping", "stopped")
    ]
    assert [pid for pid in pids if processes.is_alive(pid)] == []


def test_a_child_that_will_not_stop_is_killed_after_its_grace(stage: Stage) -> None:
    program = """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("up", flush=True)
        time.sleep(60)
    """
    child = stage.add_python("deaf", program, grace=0.3)
    stage.wait_for("up")
    stage.supervisor.stop()
    assert not processes.is_alive(child.pid)


def test_nothing_is_started_after_the_stop(stage: Stage, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    stage.add("one", "sh", "-c", f"echo start >> {starts}; exit 7")
    stage.wait_for("in 0.4 s")
    stage.supervisor.stop()
    count = starts.read_text().count("start")
    time.sleep(0.6)
    assert starts.read_text().count("start") == count == 2


def test_a_child_that_cant_be_started_at_all_is_told_at_once(stage: Stage) -> None:
    with pytest.raises(errors.ConfigurationInvalid, match="/no/such/program"):
        stage.add("one", "/no/such/program")


def test_children_go_on_when_nobody_reads_the_output_any_more(stage: Stage, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = tmp_path / "done"
    with os.fdopen(writing, "wb", buffering=0) as closed:
        program = f"print('x' * 1_000_000, flush=True); open({str(done)!r}, 'w').close()"
        child = CommandChild("one", [sys.executable, "-c", program], os.environ, Output(closed))  # type: ignore[arg-type]
        child.start()
        assert child.wait() == 0
        child.stop()
    assert done.exists()


def test_a_killed_postgres_comes_back_on_its_port_with_its_data(stage: Stage, tmp_path: Path) -> None:
    server = PostgresServer(tmp_path / "postgres")
    stage.supervisor.add(server)
    first, url = server.pid, server.url
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept ()")
    os.kill(first, signal.SIGKILL)
    assert stage.replaced.get(timeout=10) == ("postgres", server.pid)
    assert (server.url, server.pid != first) == (url, True)
    with psycopg.connect(url) as connection:
        assert connection.execute("TABLE kept").fetchall() == []
    stage.supervisor.stop()
    assert not processes.is_alive(server.pid)


SUPERVISING = """
import os, time
from usher_core.dev.outputs import Output
from usher_core.dev.supervisors import CommandChild, Supervisor
output = Output()
supervisor = Supervisor(output)
for name in ("one", "two"):
    supervisor.add(CommandChild(name, ["sleep", "60"], os.environ, output))
output.say("up")
time.sleep(60)
"""


def test_a_killed_supervisor_leaves_no_child() -> None:
    with subprocess.Popen([sys.executable, "-c", SUPERVISING], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"usher    | up\n"
            family = processes.family(process.pid)
            assert len(family) == 1 + 2 * 2  # itself, the keepers, the commands
        finally:
            process.kill()
    assert processes.wait_until_gone(family) == []
