"""The worker's side of the store: a batch of one tenant's changes in one transaction.

A batch costs two round trips: the first takes the tenant's lock and reads the snapshot, the second writes
the result and commits. Each is one call of a function in the database, but for what is kept of deleted
resources, which goes along with the second. A batch that only creates what refers to nothing needs a single
one (`assumptions`). The row of `drains` is the lock
and the fence: a drain that was superseded while it slept finds a higher epoch there and commits nothing.

Between the two stands `Pipeline.sync`, never the end of a pipeline: psycopg ends one with a Flush after
its Sync, and a Flush makes PostgreSQL forget `idle_in_transaction_session_timeout`. A worker that is
stopped there would then keep the tenant's lock for as long as it sleeps.
"""

from __future__ import annotations

import contextlib
import datetime
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson
import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from usher_core import errors, ids
from usher_core.changes import bulks, progresses, records, snapshots, units
from usher_core.scim import schemas
from usher_core.store import assumptions, databases, registries, rowsets, selections

T = TypeVar("T")

# A worker's statement may take longer than a reader's: a replace of a large group is one statement.
STATEMENT_TIMEOUT = 30.0

# The sweep ends a transaction that waits for its client for two seconds.
LONGEST_UNIT = 1.5

RAISE = """
UPDATE drains d SET epoch = d.epoch + 1
  FROM tenants t WHERE d.tenant = %s AND t.tenant = d.tenant AND t.deleted_at IS NULL
RETURNING d.epoch, t.config
"""
LOCK = "SELECT epoch FROM drains WHERE tenant = %s FOR UPDATE"
READ = "SELECT usher_read_batch(%s, %s, %s)"
APPLY = "SELECT usher_write_batch(%s, %s, %s)"
APPLY_AT_ONCE = "SELECT usher_apply_batch(%s, %s, %s, %s, %s)"
READ_AGAIN = """
SELECT type, id, version, document, created_at, modified_at
  FROM resources WHERE tenant = %s AND type = ANY(%s) AND id = ANY(%s)
"""
RESTORED = """
DELETE FROM deleted_resources d USING jsonb_to_recordset(%s) AS r (type text, id uuid)
 WHERE d.tenant = %s AND d.type = r.type AND d.id = r.id
"""
RETAINED = """
INSERT INTO deleted_resources (tenant, type, id, version, document, created_at, modified_at, deleted_at)
SELECT %s, type, id, version, document, created_at, modified_at, %s
  FROM jsonb_to_recordset(%s)
       AS r (type text, id uuid, version bigint, document jsonb, created_at timestamptz,
             modified_at timestamptz)
"""
BURY = """
INSERT INTO dead_letters (tenant, accepted_at, change_id, change, reason, traceback, attempts, failed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
KEEP_CHANGE_LOG = "SELECT usher_keep_change_log(%s)"


class ConstraintHit(errors.UsherError):
    """PostgreSQL refused the batch for what it holds: a constraint, a limit, a value it can't store."""


class _PartitionMissing(errors.UsherError):
    """The change log has no partition for a month: the sweep was away at its beginning."""


class SchemasChanged(errors.UsherError):
    """The tenant's schemas are others than those that the batch was prepared for; nothing was committed."""


class ChangeBroken(errors.UsherError):
    """Applying one change raised what is no mistake of the client's; `__cause__` is what it was."""

    def __init__(self, change: records.Change) -> None:
        super().__init__(f"change {change.change_id} can't be applied")
        self.change = change


Entry = tuple[str, records.Change]
"""A change with its position in the tenant's stream."""


class Connection:
    """One synchronous connection of a worker; it connects at first use and again after a loss."""

    def __init__(self, url: str, *, application: str = "usher-worker") -> None:
        self._conninfo = databases.conninfo(url, statement_timeout=STATEMENT_TIMEOUT, application=application)
        self._connection: psycopg.Connection[TupleRow] | None = None
        self._cursor: psycopg.Cursor[TupleRow] | None = None
        # The configuration that held when it was read last, of the tenant that is drained.
        self._config: tuple[ids.TenantId, dict[str, Any]] | None = None

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, if there is one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def raise_epoch(self, tenant: ids.TenantId) -> int:
        """Become the tenant's drain: every older one commits nothing from now on.

        Raises:
            StoreUnavailable: PostgreSQL is away.
            TenantGone: there is no such tenant any more.
        """
        with self._transaction() as connection:
            with connection.pipeline():
                connection.execute("BEGIN")
                connection.execute(*databases.set_tenant(tenant))
                cursor = connection.execute(RAISE, (tenant,))
                connection.execute("COMMIT")
            row = cursor.fetchone()
        if row is None:
            raise errors.TenantGone(f"tenant {tenant}")
        epoch, config = row
        self._config = tenant, config
        return int(epoch)

    def apply(
        self,
        tenant: ids.TenantId,
        epoch: int,
        registry: schemas.Registry,
        entries: Sequence[Entry],
    ) -> list[records.Outcome]:
        """Apply the changes in order, each once, and commit them together.

        Raises:
            StoreUnavailable: PostgreSQL is away or gave up; nothing was committed, or the answer to the
                commit was lost and the change log will tell.
            DrainSuperseded: a younger drain has taken over; nothing was committed.
            ConstraintHit: the store refused the result; nothing was committed.
            ChangeBroken: one change raised; nothing was committed.
            SchemasChanged: the tenant has another registry by now (`registry`); nothing was committed.
        """
        changes = [change for _, change in entries]
        positions = {change.change_id: stream_id for stream_id, change in entries}

        def apply(unit: units.Unit) -> list[records.Outcome]:
            outcomes = []
            for change in changes:
                with _blamed_on(change):
                    outcomes.append(unit.apply(change))
            return outcomes

        at_once = self._apply_at_once(tenant, epoch, registry, changes, positions, apply)
        if at_once is not None:
            return at_once
        return self._work(tenant, epoch, registry, changes, positions, apply)

    def _apply_at_once(
        self,
        tenant: ids.TenantId,
        epoch: int,
        registry: schemas.Registry,
        changes: Sequence[records.Change],
        positions: Mapping[ids.ChangeId, str],
        apply: Callable[[units.Unit], list[records.Outcome]],
    ) -> list[records.Outcome] | None:
        """Apply a batch to what it assumes of the store; `None` when it may not, or that is not so."""
        if self._config is None or self._config[0] != tenant:
            return None
        needs = _needs(registry, changes)
        if not assumptions.may_be_made(changes, needs):
            return None
        with _blamed_on(changes[0]):
            questions = rowsets.questions(registry, changes, needs)
            answers = assumptions.answers(registry, self._config[1])
            assumed = rowsets.snapshot(needs, {"now": assumptions.NOW.isoformat(), **answers})
            unit = units.Unit(registry, assumed)
            outcomes = apply(unit)
            rows = assumptions.without_moments(rowsets.derive(registry, unit.writes(), positions))
        values = (tenant, epoch, Jsonb(questions), Jsonb(answers), Jsonb(rows))
        try:
            with self._transaction() as connection:
                # This one statement makes most batches: it keeps its cursor.
                if self._cursor is None or self._cursor.connection is not connection:
                    self._cursor = connection.cursor()
                [(found,)] = self._cursor.execute(APPLY_AT_ONCE, values).fetchall()
        except _PartitionMissing:
            return None
        if found is None:
            raise errors.DrainSuperseded(f"tenant {tenant}: epoch {epoch} is over")
        if not found["written"]:
            return None
        return [assumptions.told(outcome, found["now"]) for outcome in outcomes]

    def begin_bulk(
        self, tenant: ids.TenantId, epoch: int, change: records.Change, bulk: bulks.Bulk
    ) -> progresses.Progress:
        """Look up how far a bulk has come.

        Raises:
            StoreUnavailable: PostgreSQL is away.
            DrainSuperseded: a younger drain has taken over.
        """
        asked = [change, *bulks.changes_of(bulk.steps)]
        with self._transaction() as connection, connection.pipeline() as pipeline:
            snapshot = _read(connection, pipeline, tenant, epoch, None, asked, snapshots.Needs())
            connection.execute("COMMIT")
        return progresses.begin(change, bulk, snapshot.applied)

    def apply_bulk(
        self,
        tenant: ids.TenantId,
        epoch: int,
        registry: schemas.Registry,
        position: str,
        progress: progresses.Progress,
        steps: Sequence[bulks.Step],
    ) -> progresses.Progress:
        """Apply the next steps of a bulk, which stands at `position`, and commit them together.

        Raises:
            StoreUnavailable, DrainSuperseded, ConstraintHit, ChangeBroken: as `apply` does.
        """
        bulk = progress.change
        changes = bulks.changes_of(steps)
        positions = dict.fromkeys(
            (change.change_id for change in [bulk, *bulks.changes_of(progress.bulk.steps)]), position
        )

        def apply(unit: units.Unit) -> progresses.Progress:
            with _blamed_on(bulk):
                return progress.advance(unit, steps)

        return self._work(tenant, epoch, registry, changes, positions, apply, also=(bulk,))

    def _work(
        self,
        tenant: ids.TenantId,
        epoch: int,
        registry: schemas.Registry,
        changes: Sequence[records.Change],
        positions: Mapping[ids.ChangeId, str],
        apply: Callable[[units.Unit], T],
        also: Sequence[records.Change] = (),
    ) -> T:
        """Let `apply` do one unit of work over the changes; of those in `also` it asks only the outcome."""
        needs = _needs(registry, changes)

        def work() -> T:
            with self._transaction() as connection, connection.pipeline() as pipeline:
                asked = [*changes, *also]
                snapshot = _read(connection, pipeline, tenant, epoch, registry, asked, needs)
                self._config = tenant, snapshot.config
                began = time.thread_time()
                with _blamed_on(asked[0]):
                    unit = units.Unit(registry, snapshot)
                    result = apply(unit)
                    writes = unit.writes()
                    rows = rowsets.derive(registry, writes, positions)
                if time.thread_time() - began > LONGEST_UNIT:
                    # What waits for us so long is ended by the sweep: it would be tried for ever.
                    raise ChangeBroken(asked[0]) from TimeoutError("it takes too long to apply")
                _write(connection, tenant, snapshot.now, writes, rows)
            return result

        try:
            return work()
        except _PartitionMissing:
            for moment in [records.now(), *(change.accepted_at for change in [*changes, *also])]:
                self.keep_change_log(moment)
            return work()

    def bury(
        self, tenant: ids.TenantId, epoch: int, entry: Entry, *, reason: str, traceback: str, attempts: int
    ) -> records.Outcome:
        """Make a change a dead letter, with its outcome 500 in the change log; safe to repeat.

        Raises:
            StoreUnavailable: PostgreSQL is away.
            DrainSuperseded: a younger drain has taken over.
        """
        change = entry[1]
        outcome = records.Outcome(
            change.change_id, 500, detail="The change could not be applied; it is kept as a dead letter."
        )
        key = (tenant, change.accepted_at, change.change_id)
        letter = Jsonb(orjson.loads(change.encode()))
        buried = (BURY, (*key, letter, reason, traceback, attempts, records.now()))
        return self.conclude(tenant, epoch, entry, outcome, buried)

    def conclude(
        self,
        tenant: ids.TenantId,
        epoch: int,
        entry: Entry,
        outcome: records.Outcome,
        *effect: databases.Statement,
    ) -> records.Outcome:
        """Log the outcome of a change that was decided elsewhere, along with its effect; safe to repeat.

        Raises:
            StoreUnavailable: PostgreSQL is away.
            DrainSuperseded: a younger drain has taken over.
        """
        try:
            return self._conclude(tenant, epoch, entry, outcome, effect)
        except _PartitionMissing:
            for moment in (records.now(), entry[1].accepted_at):
                self.keep_change_log(moment)
            return self._conclude(tenant, epoch, entry, outcome, effect)

    def _conclude(
        self,
        tenant: ids.TenantId,
        epoch: int,
        entry: Entry,
        outcome: records.Outcome,
        effect: Sequence[databases.Statement],
    ) -> records.Outcome:
        stream_id, change = entry
        with self._transaction() as connection, connection.pipeline() as pipeline:
            snapshot = _read(connection, pipeline, tenant, epoch, None, [change], snapshots.Needs())
            before = snapshot.applied.get(change.change_id)
            if before is not None:
                connection.execute("ROLLBACK")
                return before
            for text, values in effect:
                connection.execute(text, values)
            writes = units.Writes(logged=[units.Logged(change, outcome)])
            rows = rowsets.derive(None, writes, {change.change_id: stream_id})
            _write(connection, tenant, snapshot.now, writes, rows)
        return outcome

    def recall(self, tenant: ids.TenantId, epoch: int, change: records.Change) -> records.Outcome | None:
        """Find the outcome that a redelivered change had; `None` for any other change."""
        with self._transaction() as connection, connection.pipeline() as pipeline:
            snapshot = _read(connection, pipeline, tenant, epoch, None, [change], snapshots.Needs())
            connection.execute("ROLLBACK")
        return snapshot.applied.get(change.change_id)

    def registry(self, tenant: ids.TenantId) -> schemas.Registry:
        """Read the schemas and resource types that a tenant has now.

        Raises:
            StoreUnavailable: PostgreSQL is away, or what is there can't be read.
        """
        with self._transaction() as connection, connection.transaction():
            connection.execute(*databases.set_tenant(tenant))
            return registries.compiled(connection.execute(registries.READ, (tenant,)).fetchall())

    @contextlib.contextmanager
    def turn(self, tenant: ids.TenantId, epoch: int) -> Iterator[psycopg.Connection[TupleRow]]:
        """Lend a transaction that holds the tenant's lock; commit at its end.

        Raises:
            StoreUnavailable: PostgreSQL is away.
            DrainSuperseded: a younger drain has taken over; nothing was committed.
            ConstraintHit: the store refused the result; nothing was committed.
        """
        with self._transaction() as connection, connection.transaction():
            connection.execute(*databases.set_tenant(tenant))
            held = connection.execute(LOCK, (tenant,)).fetchone()
            if held is None or held[0] != epoch:
                raise errors.DrainSuperseded(f"tenant {tenant}: epoch {epoch} is over")
            yield connection

    def keep_change_log(self, moment: datetime.datetime) -> None:
        """Make sure that the change log has a partition for the month of `moment`."""
        with self._transaction() as connection:
            connection.execute(KEEP_CHANGE_LOG, (moment,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """Lend the connection to a body that begins and commits; on any error nothing stays open."""
        try:
            with databases.wrapped(), _refusals():
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self._conninfo, autocommit=True)
                yield self._connection
        except BaseException:
            # Not a rollback: of statements that a failed pipeline was about to prepare the driver believes
            # for good that the server knows them.
            self.close()
            raise


def _needs(registry: schemas.Registry, changes: Iterable[records.Change]) -> snapshots.Needs:
    needs = snapshots.Needs()
    for change in changes:
        with _blamed_on(change):
            snapshots.ask(needs, registry, change)
    return needs


REFUSED = (
    psycopg.IntegrityError,
    psycopg.DataError,
    psycopg.errors.ProgramLimitExceeded,  # the driver counts these two among the passing failures
    psycopg.errors.StatementTooComplex,
)


class _refusals:  # noqa: N801 - as `_blamed_on`
    """Tell what PostgreSQL refuses for what it holds from what may succeed another time."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        if not isinstance(raised, REFUSED):
            return
        if isinstance(raised, psycopg.errors.CheckViolation) and raised.diag.constraint_name is None:
            raise _PartitionMissing("PostgreSQL: the change log has no partition for that month") from raised
        raise ConstraintHit(f"PostgreSQL: {raised.diag.message_primary}") from raised


class _blamed_on:  # noqa: N801 - it is used like a function; as a generator it would cost three times as much
    """Name the change that raised: the body is pure, so whatever it is, it is this change's doing.

    What concerns a whole batch is blamed on its first change: alone, each is blamed for its own.
    """

    def __init__(self, change: records.Change) -> None:
        self._change = change

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        # Where one of the batch was named already, that holds.
        if isinstance(raised, Exception) and not isinstance(raised, ChangeBroken):
            raise ChangeBroken(self._change) from raised


def _read(
    connection: psycopg.Connection[TupleRow],
    pipeline: psycopg.Pipeline,
    tenant: ids.TenantId,
    epoch: int,
    registry: schemas.Registry | None,
    changes: Sequence[records.Change],
    needs: snapshots.Needs,
) -> snapshots.Snapshot:
    """Begin the transaction, take the lock and read the snapshot."""
    with _blamed_on(changes[0]):
        questions = rowsets.questions(registry, changes, needs)
    connection.execute("BEGIN")
    opened = connection.execute(READ, (tenant, epoch, Jsonb(questions)))
    selecting = {} if registry is None else _select(connection, tenant, registry, needs)
    pipeline.sync()
    [(answers,)] = opened.fetchall()
    if answers is None:
        raise errors.DrainSuperseded(f"tenant {tenant}: epoch {epoch} is over")
    if registry is not None and (answers["schemas_version"] or 0) != registry.version:
        raise SchemasChanged(f"tenant {tenant}: the schemas are at version {answers['schemas_version']}")
    with _blamed_on(changes[0]):
        snapshot = rowsets.snapshot(needs, answers)
    for selection, cursor in selecting.items():
        [(selected,)] = cursor.fetchall()
        snapshot.selected[selection] = selected
        snapshot.pairs.update((selection.group, member) for member in selected or ())
    again = [
        snapshot.applied[change.change_id].resource_id
        for change in changes
        if change.operation == "create" and change.change_id in snapshot.applied
    ]
    if again and registry is not None:
        # A redelivered create: its answer shows the resource that it made.
        kinds = [resource_type.name for resource_type in registry.resource_types]
        cursor = connection.execute(READ_AGAIN, (tenant, kinds, again))
        pipeline.sync()
        snapshot.resources.update((row[1], snapshots.Stored(*row)) for row in cursor.fetchall())
    return snapshot


def _select(
    connection: psycopg.Connection[TupleRow],
    tenant: ids.TenantId,
    registry: schemas.Registry,
    needs: snapshots.Needs,
) -> dict[snapshots.Selection, psycopg.Cursor[TupleRow]]:
    """Ask which members filters select, once the lock is granted."""
    return {
        selection: connection.execute(*selections.statement(tenant, registry, selection))
        for selection in needs.selections
    }


def _write(
    connection: psycopg.Connection[TupleRow],
    tenant: ids.TenantId,
    now: datetime.datetime,
    writes: units.Writes,
    rows: Mapping[str, list[rowsets.Row]],
) -> None:
    """Write the result of a batch and commit."""
    if writes.restored:
        connection.execute(RESTORED, (Jsonb(rowsets.kept(writes.restored)), tenant))
    if writes.retained:
        connection.execute(RETAINED, (tenant, now, Jsonb(rowsets.kept(writes.retained))))
    connection.execute(APPLY, (tenant, now, Jsonb(rows)))
    connection.execute("COMMIT")
