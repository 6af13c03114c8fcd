"""The way of a write through the api: onto the tenant's stream, and back with its true outcome.

No identity provider takes 202 for an ordinary write, so the request waits. What is answered here was
committed; what is not known in time is 503 and stays queued. A revocation takes effect before it is queued:
it is accepted into the store first, with the fences of what it takes away.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import redis
import redis.asyncio
import structlog

from usher_api import metrics, refusals, retries, turns
from usher_core import errors, ids, settings
from usher_core import metrics as core_metrics
from usher_core.changes import bulks, progresses, records, revocations
from usher_core.queues import appends, connections, jobs, memories, replies
from usher_core.store import databases, inboxes, resources
from usher_core.tenants import authentications

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Asking:
    """How a change was asked for.

    `retry_key` names the mark by which a retry finds this request, empty for none; `told_later`: the client
    is answered 202; `is_gone` tells whether it has hung up.
    """

    request_id: str = ""
    retry_key: str = ""
    told_later: bool = False
    is_gone: Callable[[], bool] | None = None


class Writes:
    """Puts changes on the streams and waits for their outcomes; one an event loop."""

    def __init__(self, config: settings.Settings, database: databases.Database) -> None:
        self._wait = config.apply_wait
        self._database = database
        self._client = connections.connect_async(config.redis_url)
        self._replies = replies.Replies(self._client)
        self._memory = memories.Memory(self._client)
        self._appender = appends.Appender(
            self._client,
            functools.partial(inboxes.is_empty, database),
            oldest=config.apply_wait,
            is_short=lambda: self._memory.is_short,
        )
        self._retries = retries.Retries(self._client, database, wait=config.apply_wait)
        self._jobs_client: redis.Redis = connections.connect(config.redis_url)
        self._jobs = jobs.queue(self._jobs_client)
        self._turns = turns.Turns(config.shared_writes)
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> redis.asyncio.Redis:
        """The connections to the queue, for those who limit reads."""
        return self._client

    def start(self) -> None:
        """Begin to read the outcomes, and to look at how full the queue is."""
        self._keep(asyncio.create_task(self._replies.run(), name="replies"))
        self._keep(asyncio.create_task(self._replies.tell(), name="alive"))
        self._keep(asyncio.create_task(self._memory.run(), name="memory"))
        self._keep(asyncio.create_task(self._retries.run(), name="retries"))

    async def close(self) -> None:
        """Stop reading and close the connections."""
        self._replies.stop()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=replies.BLOCK + 1)
        await self._replies.part()
        await self._client.aclose()
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
        asking: Asking,
    ) -> records.Outcome | ids.ChangeId:
        """Queue one change and return its outcome once it is committed; client errors are raised.

        Returns the change's id instead where the client is answered 202.

        Raises:
            ScimError: what the change's outcome says, if it failed.
            TooManyRequests: the tenant asks for more than its manifest allows.
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
            asking.request_id,
            self._replies.key,
            schemas_version=principal.registry.version,
            told_later=asking.told_later,
        )
        structlog.contextvars.bind_contextvars(change=change.change_id, resource=resource_id)
        fences = revocations.fences(principal.registry, change)
        fenced = [(change, fences)] if fences else []
        outcome = await self._send(principal, change, fenced, asking, urgent=bool(fences))
        if isinstance(outcome, records.Outcome) and not outcome.succeeded:
            raise refusals.of_outcome(outcome)
        return outcome

    async def submit_bulk(
        self,
        principal: authentications.Principal,
        change: records.Change,
        bulk: bulks.Bulk,
        asking: Asking,
    ) -> dict[int, records.Outcome] | ids.ChangeId:
        """Queue a bulk, packed as a change, and return the outcomes of its operations by their places.

        Returns the change's id instead where the client is answered 202.

        Raises:
            ChangeFailed: it could not be applied at all.
            TooManyRequests: the tenant asks for more than its manifest allows.
            Unavailable: it could not be queued, or its end did not come in time.
        """
        structlog.contextvars.bind_contextvars(change=change.change_id)
        change = dataclasses.replace(change, reply_to=self._replies.key, told_later=asking.told_later)
        parts = bulks.changes_of(bulk.steps)
        fenced = [(part, revocations.fences(principal.registry, part)) for part in parts]
        taking = [one for one in fenced if one[1]]
        # What also gives something may be refused: a limit is no limit if one deletion gets round it.
        urgent = bool(parts) and len(taking) == len(parts)
        outcome = await self._send(principal, change, taking, asking, urgent=urgent, cost=max(1, len(parts)))
        for part in parts:
            metrics.count_accepted(part.operation)
        if not isinstance(outcome, records.Outcome):
            return outcome
        if not outcome.succeeded:
            raise refusals.of_outcome(outcome)
        if outcome.document is not None:
            return progresses.read_reply(outcome)
        # The reply was lost with Valkey: the log tells the same.
        logged = await resources.find_bulk_outcomes(
            self._database, principal.tenant, change.accepted_at, change.change_id
        )
        return progresses.begin(change, bulk, logged).outcomes

    async def _send(
        self,
        principal: authentications.Principal,
        change: records.Change,
        fenced: Sequence[inboxes.Fenced],
        asking: Asking,
        *,
        urgent: bool,
        cost: int = 1,
    ) -> records.Outcome | ids.ChangeId:
        """Accept a change and wait for its outcome; what is `urgent` only takes away: it is never refused."""
        if principal.suspension is not None and not urgent:
            raise errors.Forbidden(principal.suspension)
        started = time.perf_counter()
        deadline = asyncio.get_running_loop().time() + self._wait
        tenant, promised = principal.tenant, bool(fenced) or change.told_later
        limits = appends.Limits(principal.config.requests_per_second, principal.config.max_pending_changes)
        with self._replies.expect(change.change_id) as reply:
            if promised:
                seen = await self._retries.find(asking.retry_key)
                if seen is not None and (earlier := await self._recall(tenant, asking, seen)) is not None:
                    return earlier
                if not urgent:
                    # It has to pass the limits like any other, before it is promised.
                    await self._append(tenant, appends.Item(b"", cost=cost), limits, change)
                    cost = 0
                change = await self._promise(tenant, change, fenced)
            elif not self._turns.take(tenant):
                try:
                    await self._turns.wait(tenant, patience=self._wait)
                except TimeoutError:
                    raise refusals.no_turn(self._wait) from None
            try:
                outcome = await self._queue(tenant, change, asking, limits, cost, reply, deadline)
            finally:
                if not promised:
                    self._turns.leave(tenant)
        if isinstance(outcome, records.Outcome):
            metrics.WAIT.observe(time.perf_counter() - started)
        return outcome

    async def _queue(
        self,
        tenant: ids.TenantId,
        change: records.Change,
        asking: Asking,
        limits: appends.Limits,
        cost: int,
        reply: asyncio.Future[records.Outcome],
        deadline: float,
    ) -> records.Outcome | ids.ChangeId:
        """Append a change and wait for its outcome, or for that of the request of which this is a retry."""
        item = self._item(change, asking, cost, insists=change.promised)
        try:
            await self._append(tenant, item, limits, change)
        except appends.Seen as exc:
            earlier = await self._recall(tenant, asking, retries.Mark.decode(exc.mark))
            if earlier is not None:
                return earlier
            item = self._item(change, asking, cost, insists=True)
            await self._append(tenant, item, limits, change)
        metrics.count_accepted(change.operation)
        if change.told_later:
            return change.change_id
        async with self._retries.waiting(item, asking.is_gone):
            return await self._in_time(reply, deadline) or await self._look_up(tenant, change, item)

    async def _recall(
        self, tenant: ids.TenantId, asking: Asking, seen: retries.Mark
    ) -> records.Outcome | None:
        """Return the outcome of the request of which this is a retry; `None` where this is a new wish."""
        return await self._retries.recall(tenant, asking.retry_key, seen, self._replies.key, asking.is_gone)

    def _item(self, change: records.Change, asking: Asking, cost: int, *, insists: bool) -> appends.Item:
        mark = ""
        if asking.retry_key:
            mark = retries.Mark(change.change_id, change.accepted_at, self._replies.key).encode()
        return appends.Item(
            change.encode(),
            urgent=change.promised,
            promised=change.change_id if change.promised else None,
            request=asking.retry_key,
            mark=f"!{mark}" if mark and insists else mark,
            cost=cost,
        )

    async def _promise(
        self, tenant: ids.TenantId, change: records.Change, fenced: Sequence[inboxes.Fenced]
    ) -> records.Change:
        """Accept a change for good before it is queued; what it takes away is gone when this returns."""
        change = dataclasses.replace(change, promised=True)
        try:
            await inboxes.accept(self._database, tenant, change, fenced)
        except errors.StoreUnavailable as exc:
            raise errors.Unavailable(
                "The store is away: whether the change was accepted is not known. Try again.", retry_after=2
            ) from exc
        except errors.TenantGone as exc:
            raise errors.Unavailable("The tenant was deleted meanwhile.", retry_after=5) from exc
        if fenced:
            core_metrics.TIME_TO_REVOKE.observe((records.now() - change.accepted_at).total_seconds())
        return change

    async def _append(
        self, tenant: ids.TenantId, item: appends.Item, limits: appends.Limits, change: records.Change
    ) -> None:
        try:
            must_wake = await self._appender.append(tenant, item, limits)
        except appends.Seen:
            raise
        except errors.UsherError as exc:
            if not change.promised or change.told_later:
                # 202 would promise its place in the order too, and younger changes may get theirs before it.
                raise refusals.of_append(exc, self._wait) from exc
            # It is in the inbox, and its effect stands: the sweep brings it to its turn.
            log.warning("promise.not_queued", tenant=str(tenant), error=str(exc))
            return
        if must_wake:
            self._keep(asyncio.create_task(self._wake(tenant), name="wake"))

    async def _in_time(
        self, reply: asyncio.Future[records.Outcome], deadline: float
    ) -> records.Outcome | None:
        # asyncio.wait_for does the same for six times the price.
        timer = asyncio.get_running_loop().call_at(deadline, reply.cancel)
        try:
            return await reply
        except asyncio.CancelledError:
            if reply.cancelled() and not _is_cancelling():
                return None
            raise
        finally:
            timer.cancel()

    async def _wake(self, tenant: ids.TenantId) -> None:
        # RQ is synchronous: a thread enqueues, the event loop goes on.
        try:
            await asyncio.to_thread(jobs.enqueue, self._jobs, tenant)
        except errors.QueueUnavailable as exc:
            # The sweep wakes the tenant, at its next round if the wake is nobody's.
            log.warning("wake.failed", tenant=str(tenant), error=str(exc))
            with contextlib.suppress(errors.QueueUnavailable):
                await self._appender.let_go(tenant)

    async def _look_up(
        self, tenant: ids.TenantId, change: records.Change, item: appends.Item
    ) -> records.Outcome:
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
            await self._retries.leave(item)
            raise refusals.late()
        return outcome

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
