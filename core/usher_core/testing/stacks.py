"""A whole Usher for a test or a benchmark: api and worker processes on given servers, and tenants in it.

The processes are the real commands, under keepers, so that a test that is killed leaves none behind; their
logs go to files in a folder of the caller's.
"""

from __future__ import annotations

import dataclasses
import datetime
import http.client
import os
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from usher_core import ids
from usher_core.embedded import processes
from usher_core.store import databases, tenants
from usher_core.tenants import tokens

START_PATIENCE = 60.0
STOP_PATIENCE = 40.0

COMMAND = (sys.executable, "-m", "usher_core.commands")


@dataclasses.dataclass(frozen=True, slots=True)
class Access:
    """What an identity provider is given: the URL of a tenant and a token."""

    tenant: ids.TenantId
    base_url: str
    token: str = dataclasses.field(repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request to this tenant."""
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/scim+json"}


class Stack:
    """Api and worker processes; `env` holds further USHER_* settings.

    `command` is what stands for `usher` on their command lines: a test may plant a fault of its own there.
    `api_processes`: so many share the port; the api's pid is then that of their parent.
    """

    def __init__(
        self,
        database_url: str,
        redis_url: str,
        folder: Path,
        env: dict[str, str] | None = None,
        command: Sequence[str] = COMMAND,
        api_processes: int = 1,
    ) -> None:
        self.database_url = database_url
        self.redis_url = redis_url
        self.port = free_port()
        self._folder = folder
        self._command = tuple(command)
        self._api_processes = str(api_processes)
        self._env = os.environ | {
            "USHER_DATABASE_URL": database_url,
            "USHER_REDIS_URL": redis_url,
            **(env or {}),
        }
        self._workers: list[processes.KeptProcess] = []
        self._api: processes.KeptProcess | None = None

    def __enter__(self) -> Stack:
        self.start_worker()
        self.start_api()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def base_url(self) -> str:
        """The URL under which all endpoints lie."""
        return f"http://127.0.0.1:{self.port}/iam/scim/v2"

    @property
    def api_pid(self) -> int:
        """The api's process."""
        assert self._api is not None  # noqa: S101 - after start_api
        return self._api.pid

    @property
    def worker_pids(self) -> list[int]:
        """The worker processes that were started and not killed."""
        return [worker.pid for worker in self._workers]

    def start_worker(self) -> int:
        """Start one more worker and return its process id."""
        worker = self._run(f"worker-{len(self._workers)}", "worker")
        self._workers.append(worker)
        return worker.pid

    def start_api(self) -> None:
        """Start the api and wait until it is ready."""
        listen = f"127.0.0.1:{self.port}"
        api = self._api = self._run("api", "api", "--listen", listen, "--processes", self._api_processes)
        deadline = time.monotonic() + START_PATIENCE
        while not self.is_ready():
            if not api.running or time.monotonic() > deadline:
                raise RuntimeError(f"the api did not start:\n{self.log('api')[-4000:]}")
            time.sleep(0.05)

    def kill_worker(self) -> None:
        """Kill the oldest worker with SIGKILL."""
        worker = self._workers.pop(0)
        worker.kill()
        worker.stop()

    def kill_api(self) -> None:
        """Kill the api with SIGKILL."""
        assert self._api is not None  # noqa: S101 - after start_api
        self._api.kill()
        self._api.stop()

    def wait_for_worker(self) -> None:
        """Wait until the oldest worker has ended, whatever ends it; where there is none, that is so."""
        for worker in self._workers[:1]:
            worker.wait()

    def wait_for_api(self) -> None:
        """Wait until the api has ended, whatever ends it; where there is none, that is so."""
        api = self._api
        if api is not None:
            api.wait()

    def stop(self) -> None:
        """Stop every process in order: the api first, so that what it accepted is still applied."""
        for process in [self._api, *self._workers]:
            if process is not None:
                process.stop()
        self._api, self._workers = None, []

    def log(self, name: str) -> str:
        """Read what a process logged; the names are `api`, `worker-0` and so on."""
        path = self._folder / f"{name}.log"
        return path.read_text() if path.exists() else ""

    async def make_tenant(self, name: str = "acme", role: tokens.Role = "administrator") -> Access:
        """Make a tenant that needs no SSO, with one token."""
        tenant = ids.TenantId(ids.new_uuid())
        async with databases.Database(self.database_url, application="usher-test") as database:
            row = tenants.TenantRow(
                tenant=tenant,
                namespace="test",
                name=f"{name}-{tenant.hex}",
                display_name=None,
                host=None,
                suspended=False,
                sso_required=False,
                sso_ready=False,
                sso_message="",
                config={},
            )
            await tenants.put_tenant(database, row)
        return await self.make_token(tenant, role)

    async def make_token(self, tenant: ids.TenantId, role: tokens.Role = "administrator") -> Access:
        """Issue a token of a tenant that exists."""
        now = datetime.datetime.now(datetime.UTC)
        issued = tokens.issue("test", role, datetime.timedelta(days=1), now)
        async with databases.Database(self.database_url, application="usher-test") as database:
            await tenants.insert_token(database, tenant, issued.record)
        return Access(tenant, self.base_url, issued.text)

    def _run(self, name: str, *command: str) -> processes.KeptProcess:
        with (self._folder / f"{name}.log").open("ab") as log:
            return processes.KeptProcess(
                (*self._command, *command),
                env=self._env,
                output=log,
                grace=STOP_PATIENCE,
            )

    def is_ready(self) -> bool:
        """Tell whether the api answers that it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def free_port() -> int:
    """Find a port of loopback that nobody listens on now."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])
