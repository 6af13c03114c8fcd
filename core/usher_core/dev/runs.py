"""One run of `usher dev`: servers, migrations, workers, api and tenants, from start to stop.

`commands.dev` makes one and runs it. What is started is stopped in the opposite order, also when the
start fails half-way; after a kill -9 the keepers stop it. A second run on the same folder is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from usher_core import errors
from usher_core.dev import addresses, backends, outputs, ready_files, supervisors
from usher_core.embedded import locks
from usher_core.tenants import manifests, reconciliations, vaults

_BASE_PATH = "/iam/scim/v2"
_READY_PATIENCE = 60.0
_API_GRACE = 10.0
_WORKER_GRACE = 15.0
# The children of a run that was killed get their grace before they are gone.
_CHILDREN_PATIENCE = 30.0


@dataclass(frozen=True)
class Options:
    """What the command line said."""

    tenants: Path
    listen: addresses.Address
    data: Path
    workers: int
    ready_file: Path | None


class Run:
    """A run that has not started yet."""

    def __init__(self, options: Options, output: outputs.Output) -> None:
        self._options = options
        self._output = output
        self._supervisor = supervisors.Supervisor(output, self._replaced)
        self._services: dict[str, supervisors.CommandChild] = {}
        self._backends: backends.Backends | None = None
        self._tenants: dict[str, ready_files.ReadyTenant] | None = None
        self._ready_lock = threading.Lock()

    def run(self) -> None:
        """Start everything, keep it alive until SIGINT, SIGTERM or SIGHUP, stop it in order.

        Raises:
            ConfigurationInvalid: it can't run like this; what was started by then is stopped.
            ManifestInvalid: a tenant can't be read; likewise.
        """
        data = self._options.data
        # Open to others as far as the umask says: PostgreSQL may have to run under another account. What
        # is secret below it has a mode of its own.
        for folder in (data, self._options.ready_file.parent if self._options.ready_file else data):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as exc:
                raise errors.ConfigurationInvalid(f"can't make the folder {folder}: {exc.strerror}") from exc
        with contextlib.ExitStack() as held:
            held.enter_context(locks.FolderLock(data / "lock", "usher dev").take())
            _on_stop_signals(_interrupt)
            try:
                # The services hold this one. Once it is ours, none of an earlier run is left that would
                # keep the port.
                children = locks.FolderLock(data / "children.lock", "a service of an earlier usher dev")
                held.enter_context(children.take(patience=_CHILDREN_PATIENCE))
                self._start(children.descriptor)
                while True:
                    # Not for ever: a signal just before a system call begins does not interrupt it.
                    time.sleep(1)
            except KeyboardInterrupt:
                self._output.say("stopping")
            finally:
                _on_stop_signals(_ignore)
                self._supervisor.stop()
                self._remove_ready_file()

    def _start(self, hold: int) -> None:
        self._remove_ready_file()
        bundle = manifests.load(self._options.tenants)  # first: what is wrong in them is told at once
        listen = addresses.settle(self._options.listen)
        found = self._backends = backends.start(self._options.data, os.environ, self._supervisor)
        self._migrate(found)
        for number in range(1, self._options.workers + 1):
            name = "worker" if self._options.workers == 1 else f"worker-{number}"
            self._serve(name, ["worker"], found, grace=_WORKER_GRACE, hold=hold)
        self._serve("api", ["api", "--listen", str(listen)], found, grace=_API_GRACE, hold=hold)
        base_url = f"http://{addresses.reachable(listen)}{_BASE_PATH}"
        tenants = self._apply_tenants(bundle, found, base_url)
        _wait_until_ready(addresses.reachable(listen))
        with self._ready_lock:
            self._tenants = tenants
            self._write_ready_file()
        self._output.say(f"ready at {base_url}; stop with Ctrl-C")

    def _migrate(self, found: backends.Backends) -> None:
        env = found.environment(os.environ, migrates=True)
        migration = supervisors.CommandChild("migrate", _command("migrate"), env, self._output)
        migration.start()
        try:
            status = migration.wait()
        finally:
            migration.stop()
        if status != 0:
            raise errors.ConfigurationInvalid(
                f"the migrations failed with status {status}; they say why above"
            )

    def _serve(
        self, name: str, arguments: list[str], found: backends.Backends, *, grace: float, hold: int
    ) -> None:
        child = supervisors.CommandChild(
            name,
            _command(*arguments),
            found.environment(os.environ),
            self._output,
            grace=grace,
            hold=[hold],
        )
        self._services[name] = child
        self._supervisor.add(child)

    def _apply_tenants(
        self, bundle: manifests.Bundle, found: backends.Backends, base_url: str
    ) -> dict[str, ready_files.ReadyTenant]:
        vault = vaults.FileVault(self._options.data / "secrets")
        applied = asyncio.run(
            reconciliations.apply_bundle(
                bundle,
                database_url=found.database_url,
                redis_url=found.redis_url,
                vault=vault,
                base_url=base_url,
            )
        )
        for tenant in applied:
            self._output.say(f"tenant {tenant.name}: {tenant.base_url}")
            if not tenant.ready:
                self._output.say(f"tenant {tenant.name}: not ready: {tenant.message}")
            if tenant.issued:
                self._output.say(f"tenant {tenant.name}: token {tenant.token}")
        return {each.name: ready_files.ReadyTenant(each.base_url, each.token) for each in applied}

    def _replaced(self, _: supervisors.Child) -> None:
        with self._ready_lock:
            self._write_ready_file()

    def _write_ready_file(self) -> None:
        """Write down how things stand now; before everything is ready there is nothing to write."""
        found, path = self._backends, self._options.ready_file
        if path is None or found is None or self._tenants is None:
            return
        pids = ready_files.Pids(
            api=self._services["api"].pid,
            worker=tuple(child.pid for name, child in self._services.items() if name != "api"),
            postgres=found.postgres.pid if found.postgres else None,
            valkey=found.valkey.pid if found.valkey else None,
        )
        ready_files.write(path, ready_files.Ready(self._tenants, found.database_url, found.redis_url, pids))

    def _remove_ready_file(self) -> None:
        if self._options.ready_file is not None:
            self._options.ready_file.unlink(missing_ok=True)


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "usher_core.commands", *arguments]


def _wait_until_ready(address: addresses.Address) -> None:
    deadline = time.monotonic() + _READY_PATIENCE
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection(address.host, address.port, timeout=5)
            with contextlib.closing(connection):
                connection.request("GET", "/readyz")
                if connection.getresponse().status == http.HTTPStatus.OK:
                    return
        time.sleep(0.05)
    raise errors.ConfigurationInvalid(
        f"the api did not become ready in {_READY_PATIENCE:.0f} s; it may say why above"
    )


def _on_stop_signals(handler: Callable[[int, FrameType | None], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
    # When its terminal is closed, the run stops in order instead of going on unseen; unless it was started
    # with nohup, which is to say that it should.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, handler)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _ignore(number: int, frame: FrameType | None) -> None:
    """Let a signal pass: the stop that it asks for is on its way."""
