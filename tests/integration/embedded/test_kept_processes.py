"""A kept command: how it starts, how it is stopped, and that nothing outlives what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from usher_core import errors
from usher_core.embedded.processes import KeptProcess
from usher_core.testing import processes

DEAF = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    " print('up', flush=True); time.sleep(60)"
)
PARENT = (
    "import os, subprocess, sys, time; child = subprocess.Popen(['sleep', '60']);"
    " print(child.pid, flush=True); time.sleep(60)"
)
KEEPING = """
import os, signal, subprocess, sys, time
from usher_core.embedded.processes import KeptProcess
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
kept = KeptProcess(["sleep", "60"], env=os.environ, output=subprocess.DEVNULL)
print(kept.pid, flush=True)
while True:
    time.sleep(1)
"""


def kept(*command: str, output: int = subprocess.DEVNULL, grace: float = 5.0) -> KeptProcess:
    return KeptProcess(command, env=os.environ, output=output, grace=grace)


def kept_talking(program: str, grace: float = 5.0) -> tuple[KeptProcess, str]:
    """Start a Python program and wait for its first line."""
    reading, writing = os.pipe()
    process = kept(sys.executable, "-c", program, output=writing, grace=grace)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        return process, pipe.readline().strip()


@pytest.mark.parametrize(
    ("script", "status"),
    [
        pytest.param("exit 0", 0, id="success"),
        pytest.param("exit 3", 3, id="a status"),
        pytest.param("kill -9 $$", 137, id="a signal"),
    ],
)
def test_the_keeper_ends_with_its_commands_status(script: str, status: int) -> None:
    process = kept("sh", "-c", script)
    assert process.wait() == status
    assert not process.running
    process.stop()


@pytest.mark.parametrize(
    ("command", "told"),
    [
        pytest.param("/no/such/program", "No such file", id="missing"),
        pytest.param("/etc/passwd", "Permission denied", id="no program"),
    ],
)
def test_a_command_that_cant_run_is_told_in_words(command: str, told: str) -> None:
    with pytest.raises(errors.ConfigurationInvalid, match=f"{command}.*{told}"):
        kept(command)


def test_the_pid_is_that_of_the_command_itself() -> None:
    process = kept("sleep", "60")
    assert psutil.Process(process.pid).name() == "sleep"
    process.stop()
    assert not processes.is_alive(process.pid)


def test_a_command_that_ignores_the_stop_signal_is_killed_after_its_grace() -> None:
    process, said = kept_talking(DEAF, grace=0.5)
    assert said == "up"
    started = time.monotonic()
    process.stop()
    assert 0.4 < time.monotonic() - started < 3
    assert process.wait() == 128 + signal.SIGKILL


def test_a_stopped_command_is_stopped_for_good_without_waiting_for_its_grace() -> None:
    # With a handler of its own: the kernel itself ends a stopped process that has none.
    process, said = kept_talking(DEAF.replace("signal.SIG_IGN", "lambda *_: exit(0)"), grace=30)
    assert said == "up"
    os.kill(process.pid, signal.SIGSTOP)
    started = time.monotonic()
    process.stop()
    assert time.monotonic() - started < 5
    assert not processes.is_alive(process.pid)


def test_a_keeper_that_is_asked_with_sigterm_stops_its_command() -> None:
    process = kept("sleep", "60")
    os.kill(psutil.Process(process.pid).ppid(), signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM
    process.stop()


def test_children_of_the_command_go_with_it() -> None:
    process, grandchild = kept_talking(PARENT)
    assert processes.is_alive(int(grandchild))
    process.stop()
    assert processes.wait_until_gone([int(grandchild)]) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells a child of such a death")
def test_a_command_dies_with_its_killed_keeper() -> None:
    process = kept("sleep", "60")
    os.kill(psutil.Process(process.pid).ppid(), signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert processes.wait_until_gone([process.pid], timeout=2) == []
    process.stop()


def test_a_command_dies_with_its_killed_parent_and_not_with_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KEEPING], stdout=subprocess.PIPE, text=True, process_group=0, cwd=tmp_path
    ) as parent:
        try:
            assert parent.stdout is not None
            pid = int(parent.stdout.readline())
            family = processes.family(parent.pid)
            assert pid in family

            # A terminal sends it to the whole group in the foreground.
            os.killpg(parent.pid, signal.SIGINT)
            assert parent.stdout.readline() == "interrupted\n"
            time.sleep(0.2)
            assert processes.is_alive(pid)
        finally:
            parent.kill()
    assert processes.wait_until_gone(family) == []
