"""The operator's process: the store, the Kubernetes API, and kopf between them, from start to stop.

`commands` starts it. Invariant: it ends, and is started anew by its Deployment, when it can't do its work.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging

import kopf
import structlog
from kubernetes.aio import client

from usher_core.store import databases
from usher_operator import clients, handlers

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says; no namespaces means all of them."""

    database_url: str = dataclasses.field(repr=False)
    public_url: str | None
    namespaces: tuple[str, ...]
    liveness_port: int


def run(options: Options) -> None:
    """Run the operator until a signal stops it."""
    # kopf tells of each call of each handler; what matters of it `handlers` logs, and failures it warns of.
    logging.getLogger("kopf.objects").setLevel(max(logging.WARNING, logging.getLogger().level))
    asyncio.run(serve(options))


async def serve(options: Options) -> None:
    """Run the operator in this event loop until it is cancelled or a signal stops it.

    Raises:
        ConfigurationInvalid: no way to the Kubernetes API, or the CRD is not installed.
    """
    api = await clients.connect()
    async with (
        api,
        databases.Database(
            options.database_url,
            application="usher-operator",
            pool_size=handlers.AT_ONCE,
            statement_timeout=30.0,
        ) as database,
    ):
        await clients.require_crd(api)
        service = handlers.Service(database, client.CoreV1Api(api), options.public_url)
        log.info("operator starts", namespaces=list(options.namespaces) or "all")
        await kopf.operator(
            registry=handlers.registry,
            memo=kopf.Memo(service=service),
            standalone=True,
            clusterwide=not options.namespaces,
            namespaces=options.namespaces,
            liveness_endpoint=f"http://0.0.0.0:{options.liveness_port}/healthz",
        )
