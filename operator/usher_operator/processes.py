"""The operator's process: the store, the Kubernetes API, and kopf between them, from start to stop.

`commands` starts it. Invariant: it ends, and is started anew by its Deployment, when it can't do its work.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator
from typing import Any

import kopf
import structlog
import uvloop
from kubernetes.aio import client

from usher_core import errors
from usher_core.store import databases, terms
from usher_operator import (
    agendas,
    announcements,
    clients,
    handlers,
    inventories,
    leases,
    looks,
    metrics,
    objects,
    paces,
    ports,
    sources,
    statistics,
    status_writes,
)

AT_ONCE = 8  # tenants that are looked at beside each other

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says; no namespaces means all of them, no lease that no other operator runs."""

    database_url: str = dataclasses.field(repr=False)
    public_url: str | None
    namespaces: tuple[str, ...]
    liveness_port: int
    redis_url: str | None = dataclasses.field(default=None, repr=False)
    metrics_port: int = 0
    lease: tuple[str, str] | None = None
    """Namespace and name of the Lease that tells which of several operators works."""
    watch_sources: bool = False


def run(options: Options) -> None:
    """Run the operator until a signal stops it; leave the process at once when another one is to work."""
    # kopf tells of each call of each handler; what matters `looks` logs.
    logging.getLogger("kopf.objects").setLevel(max(logging.WARNING, logging.getLogger().level))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_until_signalled(options))


async def serve(options: Options) -> None:
    """Run the operator in this event loop until it is cancelled or a signal stops it.

    Raises:
        ConfigurationInvalid: no way to the Kubernetes API, or the CRD is not installed.
        LeaseLost, OperatorSuperseded: another operator is to work; this process must end.
    """
    holder = f"{socket.gethostname()}_{secrets.token_hex(4)}"
    api = await clients.connect()
    async with api, _opened(options.database_url) as database:
        await clients.require_crd(api)
        service = _service(options, api, database, holder)
        with metrics.served(options.metrics_port):
            liveness = ports.served(options.liveness_port, lambda: _health(service))
            async with liveness, _Shift(options, service) as shift:
                if options.lease is None:
                    await shift.work()
                else:
                    await leases.Lease(api, *options.lease, holder).hold(shift.work)


async def _until_signalled(options: Options) -> None:
    """Serve; until kopf does so itself, a signal ends it too."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await serve(options)
    except asyncio.CancelledError:
        return
    except (leases.LeaseLost, errors.OperatorSuperseded) as exc:
        log.error("operator leaves", reason=str(exc))  # noqa: TRY400 - no fault, and no traceback
        sys.stdout.flush()
        sys.stderr.flush()
        # Without waiting for whatever is left running: it must not work on.
        os._exit(1)


def _service(
    options: Options, api: client.ApiClient, database: databases.Database, holder: str
) -> looks.Service:
    core, inventory = client.CoreV1Api(api), inventories.Inventory()
    written = objects.Objects(api, inventory)
    agenda = agendas.Agenda()
    metrics.TENANTS.set_function(lambda: len(inventory))
    metrics.WAITING.set_function(agenda.overdue)
    return looks.Service(
        database=database,
        term=terms.Term(database, holder),
        api=core,
        inventory=inventory,
        agenda=agenda,
        objects=written,
        statuses=status_writes.Writer(written, inventory),
        announcer=announcements.Announcer(core),
        sources=sources.RememberedSources(
            sources.KubernetesSources(core), lambda: paces.memory(len(inventory), inventory.sources)
        ),
        public_url=options.public_url,
        redis_url=options.redis_url,
    )


class _Shift:
    """Watches from the first time that this operator is to work on, and looks while it is to work.

    Watching writes nothing, so it goes on while the lease can't be kept: nothing is missed meanwhile.
    """

    def __init__(self, options: Options, service: looks.Service) -> None:
        self._options = options
        self._service = service
        self._watching: asyncio.Task[None] | None = None
        self._task: asyncio.Task[Any] | None = None

    async def __aenter__(self) -> _Shift:
        self._task = asyncio.current_task()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watching is not None:
            self._watching.remove_done_callback(self._leave)
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching

    async def work(self) -> None:
        """Look after the tenants until a signal stops kopf or another operator has taken over."""
        service = self._service
        if self._watching is None:
            log.info("operator starts", namespaces=list(self._options.namespaces) or "all")
            self._watching = asyncio.create_task(self._watch())
            self._watching.add_done_callback(self._leave)
        look = functools.partial(looks.look, service)
        working = [asyncio.create_task(service.agenda.work(look)) for _ in range(AT_ONCE)]
        working.append(asyncio.create_task(statistics.keep(service)))
        service.leads = True
        try:
            await asyncio.wait({self._watching, *working}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            service.leads = False
            for task in working:
                task.cancel()
            ended = await asyncio.gather(*working, return_exceptions=True)
        for outcome in ended:
            # The tasks that were cancelled just now ended as they should.
            if isinstance(outcome, Exception):
                raise outcome
        await self._watching

    def _leave(self, _: object) -> None:
        """End although nobody works: the signal came while the lease could not be kept."""
        if not self._service.leads and self._task is not None:
            self._task.cancel()

    async def _watch(self) -> None:
        await kopf.operator(
            registry=handlers.registry(watch_sources=self._options.watch_sources),
            memo=kopf.Memo(service=self._service),
            standalone=True,
            clusterwide=not self._options.namespaces,
            namespaces=self._options.namespaces,
        )


def _health(service: looks.Service) -> dict[str, Any]:
    return {
        "leads": service.leads,
        "tenants": len(service.inventory),
        "secondsSinceLastEvent": int(time.monotonic() - service.last_event),
    }


@contextlib.asynccontextmanager
async def _opened(database_url: str) -> AsyncIterator[databases.Database]:
    database = databases.Database(
        database_url, application=terms.APPLICATION, pool_size=AT_ONCE, statement_timeout=30.0
    )
    await database.open()
    try:
        yield database
    finally:
        # kopf's last act is to cancel what runs in its loop, and the pool's own tasks are cancelled with it.
        with contextlib.suppress(asyncio.CancelledError):
            await database.close()
