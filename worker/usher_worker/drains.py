"""The drain: applies one tenant's changes from the head of its stream, batch by batch.

RQ runs `drain` for a tenant that was woken. It lingers on an idle stream, so that the next change finds
it waiting, and gives way as soon as another tenant waits. The tenant's epoch makes it harmless: a drain
that slept through its own replacement commits nothing.

Three kinds of failure, told apart by type: the client's are outcomes and never get here; the world's
(`StoreUnavailable`) are tried again with backoff, nothing skipped; ours (`ChangeBroken`,
`ConstraintHit`) single the change out until it is applied alone or becomes a dead letter.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import time
import uuid
from collections.abc import Callable, Mapping

import structlog

from usher_core import errors, ids
from usher_core.changes import records
from usher_core.queues import jobs, keys, streams
from usher_core.store import batches
from usher_worker import bulks, holds, metrics, processes, schema_changes

log = structlog.get_logger(__name__)

# A blocking read returns at least this often, so that the wake is renewed and a stop is seen.
BLOCK = 1.0

# So many deaths over a batch, and its changes are applied one by one.
DEATHS_OF_A_BATCH = 2

Alone = Callable[[holds.Hold, batches.Entry, int, bool], records.Outcome | None]
"""Applies what shares no batch; knows how often a worker died over it, and whether to take small steps."""

ALONE: Mapping[str, Alone] = {"bulk": bulks.apply, "schemas": schema_changes.apply}
"""Who applies each of the operations that are taken alone (`records.TAKEN_ALONE`)."""


def drain(tenant: str) -> None:
    """Drain a tenant's stream, then those of the tenants that wait; what RQ runs (`jobs.DRAIN`).

    What RQ does around a job costs more than a batch. So a job goes on with whoever waits longest, for as
    long as one drain may live, all in all.
    """
    process = processes.current()
    until = time.monotonic() + process.settings.drain_lifetime
    done = _drain(process, ids.TenantId(uuid.UUID(tenant)), until)
    # None is begun that would have less than its slice.
    while not done and time.monotonic() + process.settings.drain_slice < until:
        process.beat()
        done = process.stopping.is_set() or _drain_next(process, until)


def _drain_next(process: processes.Process, until: float) -> bool:
    """Drain whoever waits longest; tell whether that was the last.

    The job succeeds whatever becomes of it, for RQ would try the first tenant's drain again.
    """
    try:
        waiting = jobs.take(process.redis)
    except errors.QueueUnavailable:
        return True
    if waiting is None:
        return True
    try:
        return _drain(process, waiting.tenant, until)
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is this tenant's
        holds.note_failure("drain.failed", exc, tenant=str(waiting.tenant))
        with contextlib.suppress(errors.QueueUnavailable):
            jobs.try_again(jobs.queue(process.redis), waiting)
        return True


def _drain(process: processes.Process, tenant: ids.TenantId, until: float) -> bool:
    """Run one drain; tell whether the process has done enough."""
    with structlog.contextvars.bound_contextvars(tenant=str(tenant)):
        try:
            end = Drain(process, tenant, until=until).run()
            metrics.DRAINS.labels(end).inc()
            log.debug("drain.ended", end=end)
        finally:
            enough = process.count()
    return enough


class Drain:
    """One run over one tenant's stream."""

    def __init__(
        self,
        process: processes.Process,
        tenant: ids.TenantId,
        tail: streams.Tail | None = None,
        *,
        until: float | None = None,
    ) -> None:
        """`until`: when it has to end (monotonic), if not after the life that the settings give it."""
        self._hold = holds.Hold(process, tenant, tail, until)
        self._process = process
        self._settings = process.settings
        self._tenant = tenant
        self._tail = self._hold.tail
        self._suspect_until: str | None = None
        self._deaths = 0

    def run(self) -> str:
        """Drain until there is nothing left, time is up, or another drain has taken over.

        Returns:
            How it ended: `idle`, `handed over`, `superseded`, `tenant gone`, `stopped`.

        Raises:
            StoreUnavailable: PostgreSQL stayed away; RQ tries the job again, then the sweep does.
            QueueUnavailable: Valkey is away; the sweep wakes the tenant when it is back.
        """
        try:
            self._open()
            return self._loop(time.monotonic())
        except errors.DrainSuperseded:
            return "superseded"
        except errors.TenantGone:
            self._tail.discard()
            return "tenant gone"
        except errors.StoreUnavailable:
            self._tail.forgive()
            self._tail.hand_over(keys.WAKE_RUNNING)
            raise
        finally:
            self._tail.close()

    def _open(self) -> None:
        deaths, self._suspect_until = self._tail.open()
        self._hold.epoch = self._hold.persist(lambda: self._hold.store.raise_epoch(self._tenant))
        if self._suspect_until is not None:
            self._deaths = deaths
        elif deaths >= DEATHS_OF_A_BATCH:
            self._suspect(self._tail.peek(self._settings.batch_size))
            log.warning("drain.suspects", deaths=deaths, until=self._suspect_until)

    def _loop(self, started: float) -> str:
        quiet_since = time.monotonic()
        others_wait = True  # unknown yet: the first read does not linger
        while True:
            if self._process.stopping.is_set():
                return self._leave("stopped")
            now = time.monotonic()
            lingering = not others_wait and now - quiet_since < self._settings.drain_linger
            asked = 1 if self._suspect_until else self._settings.batch_size
            taken = self._tail.take(asked, block=BLOCK if lingering else 0)
            others_wait = taken.others_wait
            settled = 0
            if taken.entries:
                settled = self._process_entries(taken.entries)
                quiet_since = time.monotonic()
            else:
                self._deaths = 0
            self._hold.renew()
            now = time.monotonic()
            over = now > self._hold.deadline
            if taken.entries:
                if over or (others_wait and now - started > self._settings.drain_slice):
                    return self._leave("handed over")
                done = others_wait and settled == len(taken.entries) < asked
            else:
                done = others_wait or over or now - quiet_since >= self._settings.drain_linger
            if done and self._tail.give_up():
                return "idle"

    def _leave(self, end: str) -> str:
        """End although something may be left: another drain goes on, behind the tenants that wait."""
        if not self._tail.give_up():
            self._tail.hand_over(keys.WAKE_QUEUED)
            jobs.enqueue(jobs.queue(self._process.redis), self._tenant)
        return end

    def _process_entries(self, raw: list[tuple[str, bytes]]) -> int:
        """Apply what may be applied of the entries; tell how many were settled, from the first one on."""
        raw = _within(raw, holds.BATCH_BYTES)
        position = raw[0][0]
        if self._suspect_until is not None and _order(position) > _order(self._suspect_until):
            self._suspect_until = None
            self._tail.trust()
        entries = _shared(self._readable(raw))
        if not entries:
            return 0
        if entries[0][1].operation in ALONE:
            return self._process_alone(entries[0])
        if self._deaths >= self._settings.alone_attempts:
            self._bury(
                entries[0], "WorkerDied", "A worker died each time it applied this change.", self._deaths
            )
            self._deaths = 0
            return 1
        started = time.perf_counter()
        try:
            outcomes = self._hold.persist(
                lambda: self._apply(entries),
                attempts=holds.FAILURES_OF_A_BATCH if len(entries) > 1 else None,
                timeouts=holds.FAILURES_OF_A_BATCH,
            )
        except holds.TriedEnough as exc:
            if len(entries) == 1:
                self._bury(entries[0], "TimedOut", str(exc.__cause__), holds.FAILURES_OF_A_BATCH)
                return 1
            # Perhaps it is the batch, and not the world: one by one, each has a transaction of its own.
            self._suspect(entries[-1][0])
            return 0
        except (batches.ChangeBroken, batches.ConstraintHit) as exc:
            holds.note_failure("batch.failed", exc, changes=len(entries))
            if len(entries) == 1:
                self._alone(entries[0], exc)
                return 1
            # Apply them again one by one: each good change is applied, the bad one shows itself.
            self._suspect(entries[-1][0])
            self._tail.forgive()
            return 0
        self._deaths = 0
        self._settle(entries, outcomes)
        metrics.BATCH.observe(len(entries))
        metrics.BATCH_SECONDS.observe(time.perf_counter() - started)
        return len(entries)

    def _apply(self, entries: list[batches.Entry]) -> list[records.Outcome]:
        return self._hold.by_schemas(
            lambda registry: self._hold.store.apply(self._tenant, self._hold.epoch, registry, entries)
        )

    def _process_alone(self, entry: batches.Entry) -> int:
        apply = ALONE[entry[1].operation]
        outcome: records.Outcome | None
        try:
            outcome = apply(self._hold, entry, self._deaths, self._suspect_until is not None)
        except (batches.ChangeBroken, batches.ConstraintHit) as exc:
            # Nothing of it could be singled out and given up, so it is given up as a whole.
            outcome = self._hold.bury_broken(entry, exc)
        self._deaths = 0
        if outcome is None:
            self._tail.forgive()  # it stays at the head, for the drain that comes next
            return 0
        self._settle([entry], [outcome])
        return 1

    def _alone(self, entry: batches.Entry, failure: Exception) -> None:
        """Try one change again, alone, and give it up in the end."""
        try:
            outcomes = self._hold.insist(lambda: self._apply([entry]), failure)
        except (batches.ChangeBroken, batches.ConstraintHit) as exc:
            outcomes = [self._hold.bury_broken(entry, exc)]
        self._settle([entry], outcomes)

    def _bury(self, entry: batches.Entry, reason: str, trace: str, attempts: int) -> None:
        self._settle([entry], [self._hold.bury(entry, reason, trace, attempts)])

    def _readable(self, raw: list[tuple[str, bytes]]) -> list[batches.Entry]:
        entries = []
        for position, data in raw:
            try:
                entries.append((position, records.Change.decode(data)))
            except ValueError:
                if entries:
                    break  # what stands before it goes first
                self._bury_unreadable(position, data)
                return []
        return entries

    def _bury_unreadable(self, position: str, data: bytes) -> None:
        moment = records.EPOCH + datetime.timedelta(milliseconds=_order(position)[0])
        stand_in = records.Change(
            _same_id(self._tenant, position),
            moment,
            "delete",
            "",
            ids.ResourceId(uuid.UUID(int=0)),
            {"unreadable": base64.b64encode(data).decode()},
            None,
            "",
            "",
            "",
        )
        self._bury((position, stand_in), "Unreadable", "The entry of the stream is no change.", 1)

    def _settle(self, entries: list[batches.Entry], outcomes: list[records.Outcome]) -> None:
        replies = [
            (change.reply_to, outcome.encode())
            for (_, change), outcome in zip(entries, outcomes, strict=True)
            if change.reply_to
        ]
        promised = [change.change_id for _, change in entries if change.promised]
        self._tail.settle([position for position, _ in entries], replies, promised)
        committed = records.now()
        for (_, change), outcome in zip(entries, outcomes, strict=True):
            metrics.count_applied(change, outcome, committed)

    def _suspect(self, until: str | None) -> None:
        self._deaths = 0
        self._suspect_until = until
        self._tail.forgive()
        if until is not None:
            self._tail.suspect(until)


def _within(raw: list[tuple[str, bytes]], budget: int) -> list[tuple[str, bytes]]:
    """Cut a batch off before its changes hold more bytes than the budget; the first is always in it."""
    total = 0
    for number, (_, data) in enumerate(raw):
        total += len(data)
        if number and total > budget:
            return raw[:number]
    return raw


def _shared(entries: list[batches.Entry]) -> list[batches.Entry]:
    """Cut a batch off before what is taken alone, or behind it if that is its head."""
    for number, (_, change) in enumerate(entries):
        if change.operation in records.TAKEN_ALONE:
            return entries[: max(number, 1)]
    return entries


def _same_id(tenant: ids.TenantId, position: str) -> ids.ChangeId:
    """Make an id for what has none: the same at each delivery, so that it becomes one letter.

    It tells its moment, as the ids of all changes do (RFC 9562 §5.7, for which Python's `uuid` is too old).
    """
    drawn = uuid.uuid5(tenant, position).int & (1 << 76) - 1
    made = _order(position)[0] & (1 << 48) - 1
    return ids.ChangeId(uuid.UUID(int=made << 80 | 7 << 76 | drawn))


def _order(position: str) -> tuple[int, int]:
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)
