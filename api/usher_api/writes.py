"""The way of a write through the api: onto the tenant's stream, and back with its true outcome.

No identity provider takes 202 for an ordinary write, so the request waits. What is answered here was
committed; what is not known in time is 503 and stays queued.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from typing import Any

import redis
import redis.asyncio
import structlog

from usher_api import metrics
from usher_core import errors, ids, settings
from usher_core.changes import records
from usher_core.queues import connections, jobs, replies, streams
from usher_core.store import databases, resources
from usher_core.tenants import authentications

log = structlog.get_logger(__name__)


class Writes:
    """Puts changes on the streams and waits for their outcomes; one an event loop."""

    def __init__(self, config: settings.Settings, database: databases.Database) -> None:
        self._wait = config.apply_wait
        self._database = database
        self._client = connections.connect_async(config.redis_url)
        # The reply list is read on a connection of its own: it blocks for as long as nothing comes.
        self._replies_client = connections.connect_async(config.redis_url)
        self._replies = replies.Replies(self._replies_client)
        self._appender = streams.Appender(self._client, oldest=config.apply_wait)
        self._jobs_client: redis.Redis = connections.connect(config.redis_url)
        self._jobs = jobs.queue(self._jobs_client)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to read the outcomes."""
        self._keep(asyncio.create_task(self._replies.run(), name="replies"))

    async def close(self) -> None:
        """Stop reading and close the connections."""
        self._replies.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=replies.BLOCK + 1)
        await self._client.aclose()
        await self._replies_client.aclose()
        self._jobs_client.close()

    async def submit(
        self,
        principal: authentications.Principal,
        operation: records.Operation,
        resource_type: str,
        resource_id: ids.ResourceId,
        body: Any,
        *,
        if_match: tuple[int, ...] | None = None,
        request_id: str = "",
    ) -> records.Outcome:
        """Queue one change and return its outcome once it is committed; client errors are raised.

        Raises:
            ScimError: what the change's outcome says, if it failed.
            Unavailable: the change could not be queued, or its outcome did not come in time.
        """
        change = records.Change(
            ids.ChangeId(ids.new_uuid()),
            records.now(),
            operation,
            resource_type,
            resource_id,
            body,
            if_match,
            principal.token_id,
            request_id,
            self._replies.key,
        )
        structlog.contextvars.bind_contextvars(change=str(change.change_id), resource=str(resource_id))
        started = time.perf_counter()
        with self._replies.expect(change.change_id) as reply:
            await self._append(principal.tenant, change)
            metrics.ACCEPTED.labels(operation).inc()
            outcome = await self._in_time(reply) or await self._look_up(principal.tenant, change)
        metrics.WAIT.observe(time.perf_counter() - started)
        if not outcome.succeeded:
            raise _as_error(outcome)
        return outcome

    async def _in_time(self, reply: asyncio.Future[records.Outcome]) -> records.Outcome | None:
        # asyncio.wait_for does the same for six times the price.
        timer = asyncio.get_running_loop().call_later(self._wait, reply.cancel)
        try:
            return await reply
        except asyncio.CancelledError:
            if reply.cancelled() and not _is_cancelling():
                return None
            raise
        finally:
            timer.cancel()

    async def _append(self, tenant: ids.TenantId, change: records.Change) -> None:
        try:
            must_wake = await self._appender.append(tenant, change)
        except streams.Backlogged:
            raise errors.Unavailable(
                "Earlier changes of this tenant are still waiting; this one was not accepted. Try again.",
                retry_after=max(1, math.ceil(self._wait / 5)),
            ) from None
        except errors.QueueUnavailable as exc:
            raise errors.Unavailable(
                "The queue is away: whether the change was accepted is not known. Try again.", retry_after=2
            ) from exc
        if must_wake:
            self._keep(asyncio.create_task(self._wake(tenant), name="wake"))

    async def _wake(self, tenant: ids.TenantId) -> None:
        # RQ is synchronous: a thread enqueues, the event loop goes on.
        try:
            await asyncio.to_thread(jobs.enqueue, self._jobs, tenant)
        except errors.QueueUnavailable as exc:
            # The sweep wakes the tenant, at its next round if the wake is nobody's.
            log.warning("wake.failed", tenant=str(tenant), error=str(exc))
            with contextlib.suppress(errors.QueueUnavailable):
                await self._appender.let_go(tenant)

    async def _look_up(self, tenant: ids.TenantId, change: records.Change) -> records.Outcome:
        """Ask the change log, for the reply itself may have been lost with Valkey."""
        try:
            outcome = await resources.find_outcome(
                self._database, tenant, change.accepted_at, change.change_id
            )
        except errors.StoreUnavailable:
            outcome = None
        if outcome is None:
            metrics.LATE.inc()
            log.warning("change.late", tenant=str(tenant), change=str(change.change_id))
            raise errors.Unavailable(
                "The change was not applied in time. It may still be: try again later.", retry_after=5
            )
        return outcome

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


_BY_STATUS: dict[int, type[errors.ScimError]] = {
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.UniquenessViolated,
    412: errors.PreconditionFailed,
    500: errors.ChangeFailed,
}
_BY_SCIM_TYPE: dict[str | None, type[errors.ScimError]] = {
    kind.scim_type: kind
    for kind in (
        errors.InvalidFilter,
        errors.InvalidPath,
        errors.InvalidSyntax,
        errors.InvalidValue,
        errors.InvalidVersion,
        errors.MutabilityViolated,
        errors.NoTarget,
        errors.TooMany,
    )
}


def _as_error(outcome: records.Outcome) -> errors.ScimError:
    kind = _BY_STATUS.get(outcome.status) or _BY_SCIM_TYPE.get(outcome.scim_type, errors.InvalidValue)
    return kind(outcome.detail or "The change was refused.")
