"""`usher dev` from outside: it serves, goes on where it was, survives kills and leaves nothing behind."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from usher_core.testing import processes, servers

ACME = """\
apiVersion: usher.dev/v1alpha1
kind: ScimTenant
metadata:
  name: acme
spec:
  displayName: Acme
  sso:
    mode: Optional
  tokens:
    - name: main
      secretRef:
        name: acme-scim
"""
USER = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    "userName": "ada@acme.example",
    "name": {"givenName": "Ada", "familyName": "Lovelace"},
    "emails": [{"value": "ada@acme.example", "primary": True}],
    "active": True,
}


@dataclasses.dataclass
class Dev:
    """A running `usher dev`, what it prints going to a file."""

    process: subprocess.Popen[bytes]
    output: Path
    ready_file: Path

    @property
    def ready(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.ready_file.read_text())
        return document

    @property
    def said(self) -> str:
        return self.output.read_text(errors="replace")

    @property
    def pids(self) -> dict[str, int]:
        pids = self.ready["pids"]
        return {**pids, "worker": pids["worker"][0]}

    def wait_until(self, happened: Callable[[], bool], timeout: float = 30) -> None:
        deadline = time.monotonic() + timeout
        while not happened():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def wait_until_ready(self) -> Dev:
        self.wait_until(self.ready_file.exists)
        return self

    def scim(self, tenant: str = "acme") -> httpx.Client:
        acme = self.ready["tenants"][tenant]
        headers = {"Authorization": f"Bearer {acme['token']}", "Content-Type": "application/scim+json"}
        return httpx.Client(base_url=acme["base_url"], headers=headers, timeout=40)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Dev]]:
    """Start `usher dev` on the folder that is named; without an address it takes a free port."""
    tmp_path = tmp_path_factory.mktemp("dev")
    started: list[Dev] = []
    manifests = tmp_path / "acme.yaml"
    manifests.write_text(ACME)

    def start(
        folder: str, *, tenants: Path = manifests, listen: str = "127.0.0.1:0", **surrounding: str
    ) -> Dev:
        number = len(started) + 1
        ready, output = tmp_path / f"ready-{number}.json", tmp_path / f"output-{number}"
        env = {name: value for name, value in os.environ.items() if not name.startswith("USHER_")}
        with output.open("wb") as stream:
            options = [f"--tenants={tenants}", f"--listen={listen}", f"--data={tmp_path / folder}"]
            process = subprocess.Popen(
                [sys.executable, "-m", "usher_core.commands", "dev", *options, f"--ready-file={ready}"],
                env={**env, **surrounding},
                cwd=tmp_path,
                stdout=stream,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
        dev = Dev(process, output, ready)
        started.append(dev)
        return dev

    yield start
    for dev in started:
        dev.process.kill()
        dev.process.wait()


@pytest.fixture(scope="module")
def running(start: Callable[..., Dev]) -> Dev:
    """One run for the tests that leave it running."""
    return start("running").wait_until_ready()


def test_it_serves_and_after_a_kill_the_next_run_goes_on_and_stops_in_order(
    start: Callable[..., Dev],
) -> None:
    first = start("killed").wait_until_ready()
    token = first.ready["tenants"]["acme"]["token"]
    assert f"tenant acme: token {token}" in first.said
    with first.scim() as scim:
        made = scim.post("/Users", json=USER)
        assert made.status_code == 201
    family = processes.family(first.process.pid)
    assert set(first.pids.values()) < set(family)
    first.process.kill()

    # At once: it waits by itself until the last process of the killed run has gone.
    second = start("killed").wait_until_ready()
    assert processes.wait_until_gone(set(family) - {first.process.pid}, timeout=0) == []
    assert second.ready["tenants"]["acme"]["token"] == token
    assert token not in second.said
    with second.scim() as scim:
        assert scim.get(f"/Users/{made.json()['id']}").json()["userName"] == USER["userName"]
    family = processes.family(second.process.pid)

    # Ctrl-C in a terminal goes to the whole group in the foreground.
    os.killpg(second.process.pid, signal.SIGINT)
    assert second.process.wait(timeout=30) == 0
    assert processes.wait_until_gone(family, timeout=1) == []
    assert not second.ready_file.exists()
    assert re.search(r"stopping\n(api .*\n)+worker ", second.said)
    assert "starting it again" not in second.said


def test_killed_children_come_back_where_they_were_and_the_ready_file_says_so(running: Dev) -> None:
    dev = running
    before = dev.pids
    urls = {name: value for name, value in dev.ready.items() if name != "pids"}
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    dev.wait_until(lambda: set(dev.pids.values()).isdisjoint(before.values()))
    assert {name: value for name, value in dev.ready.items() if name != "pids"} == urls

    def answers() -> bool:
        with dev.scim() as scim, contextlib.suppress(httpx.TransportError):
            return scim.get("/Users").status_code == 200
        return False

    dev.wait_until(answers)
    with dev.scim() as scim:
        assert scim.post("/Users", json=USER).status_code == 201


def test_two_run_beside_each_other_but_not_on_one_folder_and_servers_that_are_not_ours_stay(
    start: Callable[..., Dev], running: Dev, tmp_path: Path
) -> None:
    second = start("running")
    with servers.start_servers(tmp_path / "servers") as external:
        beside = start(
            "beside",
            USHER_DATABASE_URL=external.database.app,
            USHER_MIGRATE_DATABASE_URL=external.database.owner,
            USHER_REDIS_URL=external.redis_url,
        ).wait_until_ready()
        assert (beside.ready["pids"]["postgres"], beside.ready["pids"]["valkey"]) == (None, None)
        assert beside.ready["database_url"] == external.database.app
        assert beside.ready["redis_url"] == external.redis_url
        for dev in (running, beside):
            with dev.scim() as scim:
                assert scim.get("/Users").status_code == 200
        assert beside.stop() == 0
        assert processes.is_alive(external.postgres.pid)
        assert processes.is_alive(external.valkey.pid)
    assert second.process.wait(timeout=30) == 1
    told = rf"usher: usher dev already runs on .*running \(process {running.process.pid}\)"
    assert re.search(told, second.said)


def test_it_stops_in_order_also_while_it_starts(start: Callable[..., Dev]) -> None:
    dev = start("starting")
    dev.wait_until(lambda: "schema is at revision" in dev.said)
    family = processes.family(dev.process.pid)
    assert dev.stop() == 0
    assert processes.wait_until_gone(family, timeout=1) == []
    assert not dev.ready_file.exists()


def test_what_cant_work_is_told_before_anything_is_started(start: Callable[..., Dev], tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text(ACME.replace("mode: Optional", "mode: Perhaps"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = f"127.0.0.1:{listener.getsockname()[1]}"
        for dev, told in (
            (start("a", tenants=broken), r"usher: .*broken.yaml, document 1: spec.sso.mode"),
            (start("b", listen=taken), f"usher: can't listen on {taken}"),
            (start("c", listen="8080"), "usher: --listen 8080: must be HOST:PORT"),
        ):
            assert dev.process.wait(timeout=30) == 1
            assert re.search(told, dev.said)
    assert [name for name in "abc" if (dev.output.parent / name / "postgres").exists()] == []


def test_a_folder_brings_a_tenant_with_schemas_of_its_own_and_the_next_run_changes_them(
    start: Callable[..., Dev], tmp_path: Path
) -> None:
    example = Path(__file__).parents[3] / "examples" / "devices"
    first = start("devices", tenants=example).wait_until_ready()
    with first.scim("devices") as scim:
        made = scim.post("/Devices", json={"displayName": "D", "serialNumber": "S1"})
        assert made.status_code == 201
    assert first.stop() == 0
    for file in example.iterdir():
        # The kind of a device becomes required, and the one that is there has none.
        text = file.read_text().replace('"name": "kind", ', '"name": "kind", "required": true, ')
        (tmp_path / file.name).write_text(text)
    second = start("devices", tenants=tmp_path).wait_until_ready()
    assert f"Device {made.json()['id']}: kind is required and missing" in second.said
    with second.scim("devices") as scim:
        assert scim.post("/Devices", json={"displayName": "E", "serialNumber": "S2"}).status_code == 201
