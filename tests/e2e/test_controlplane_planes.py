"""The tests' own control plane keeps to itself and leaves nothing behind."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
from controlplane import builds, planes

from usher_core.embedded import ports
from usher_core.testing import processes

STARTED = """
import pathlib, sys, time
sys.path.append(sys.argv[1])
from controlplane import planes
with planes.ControlPlane(pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3])):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def programs() -> Path:
    """The programs; a session that was given a cluster may be on a machine that can't build them."""
    if os.environ.get("USHER_E2E_CONTEXT"):
        pytest.skip("the session was given a cluster, and starts none")
    return builds.build(print)


def test_a_killed_session_leaves_no_process(programs: Path, tmp_path: Path) -> None:
    words = [str(Path(__file__).parent), str(programs), str(tmp_path / "plane")]
    with subprocess.Popen([sys.executable, "-c", STARTED, *words], stdout=subprocess.PIPE) as session:
        try:
            assert session.stdout is not None
            assert session.stdout.readline() == b"ready\n"
            family = processes.family(session.pid)
        finally:
            session.send_signal(signal.SIGKILL)
    assert len(family) == 1 + 2 * len(builds.PROGRAMS)  # each under a keeper of its own
    assert processes.wait_until_gone(family) == []


def test_a_port_that_was_taken_meanwhile_is_passed_over(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = ports.candidates()
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = [other.getsockname()[1], next(free), next(free)]
        offered = iter([iter(taken), free])

        def candidates() -> Iterator[int]:
            return next(offered)

        monkeypatch.setattr(ports, "candidates", candidates)
        with planes.ControlPlane(programs, tmp_path / "plane") as plane:
            assert "address already in use" not in plane.log("etcd")
            assert list(offered) == []


def test_it_listens_on_loopback_and_asks_for_a_token(programs: Path, tmp_path: Path) -> None:
    with planes.ControlPlane(programs, tmp_path / "plane") as plane:
        listening = {
            connection.laddr.ip
            for process in psutil.Process().children(recursive=True)
            if process.name() in builds.PROGRAMS
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {"127.0.0.1"}
        assert plane.kubeconfig.stat().st_mode & 0o077 == 0
        (cluster,) = json.loads(plane.kubeconfig.read_text())["clusters"]
        trust = ssl.create_default_context(cafile=cluster["cluster"]["certificate-authority"])
        asking = http.client.HTTPSConnection(urlsplit(cluster["cluster"]["server"]).netloc, context=trust)
        asking.request("GET", "/api/v1/secrets", headers={"Authorization": "Bearer guessed"})
        assert asking.getresponse().status == 401
        asking.close()
