"""The worker's side of the store: a batch of one tenant's changes in one transaction.

A batch costs two round trips: the first takes the tenant's lock and reads the snapshot, the second writes
the result and commits. The row of `drains` is the lock and the fence: a drain that was superseded while
it slept finds a higher epoch there and commits nothing.

Between the two stands `Pipeline.sync`, never the end of a pipeline: psycopg ends one with a Flush after its
Sync, and a Flush makes PostgreSQL forget `idle_in_transaction_session_timeout`. A worker that is stopped
there would then keep the tenant's lock for as long as it sleeps.
"""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator, Mapping, Sequence
from typing import LiteralString

import orjson
import psycopg
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from usher_core import errors, ids
from usher_core.changes import records, snapshots, units
from usher_core.scim import schemas
from usher_core.store import databases, rowsets

# A worker's statement may take longer than a reader's: a replace of a large group is one statement.
STATEMENT_TIMEOUT = 30.0

LOCK = "SELECT epoch, clock_timestamp() FROM drains WHERE tenant = %s FOR UPDATE"
RAISE = """
UPDATE drains d SET epoch = d.epoch + 1
  FROM tenants t WHERE d.tenant = %s AND t.tenant = d.tenant AND t.deleted_at IS NULL RETURNING d.epoch
"""
READ_APPLIED = """
SELECT l.change_id, l.status, l.scim_type, l.detail, l.version
  FROM unnest(%s::timestamptz[], %s::uuid[]) AS c (accepted_at, change_id)
  JOIN change_log l ON l.tenant = %s AND l.accepted_at = c.accepted_at AND l.change_id = c.change_id
"""
READ_RESOURCES = """
SELECT type, id, version, document, created_at, modified_at
  FROM resources WHERE tenant = %s AND type = ANY(%s) AND id = ANY(%s)
"""
READ_OWNERS = """
SELECT u.type, u.path, u.folded, u.id
  FROM unnest(%s::text[], %s::text[], %s::text[]) AS k (type, path, folded)
  JOIN unique_values u ON u.tenant = %s AND u.type = k.type AND u.path = k.path AND u.folded = k.folded
"""
READ_PAIRS = """
SELECT m.group_id, m.member_id
  FROM unnest(%s::uuid[], %s::uuid[]) AS p (group_id, member_id)
  JOIN members m ON m.tenant = %s AND m.group_id = p.group_id AND m.member_id = p.member_id
"""
READ_TARGETS = "SELECT id, type FROM resources WHERE tenant = %s AND type = ANY(%s) AND id = ANY(%s)"
READ_COUNTED = (
    "SELECT group_id, count(*) FROM members WHERE tenant = %s AND group_id = ANY(%s) GROUP BY group_id"
)
READ_LEFT = """
SELECT m.member_id, r.type, r.id, r.version, r.document, r.created_at, r.modified_at
  FROM members m JOIN resources r ON r.tenant = m.tenant AND r.type = 'Group' AND r.id = m.group_id
 WHERE m.tenant = %s AND m.member_id = ANY(%s)
"""

INSERT_RESOURCES = """
INSERT INTO resources (tenant, type, id, version, document, external_id, display_name,
                       created_at, modified_at)
SELECT %s, type, id, version, document, external_id, display_name, created_at, modified_at
  FROM jsonb_to_recordset(%s::jsonb) AS r (type text, id uuid, version bigint, document jsonb,
       external_id text, display_name text, created_at timestamptz, modified_at timestamptz)
"""
UPDATE_RESOURCES = """
UPDATE resources t
   SET version = r.version, document = r.document, external_id = r.external_id,
       display_name = r.display_name, modified_at = r.modified_at
  FROM jsonb_to_recordset(%s::jsonb) AS r (type text, id uuid, version bigint, document jsonb,
       external_id text, display_name text, modified_at timestamptz)
 WHERE t.tenant = %s AND t.type = r.type AND t.id = r.id
"""
DELETE_RESOURCES = """
DELETE FROM resources t USING jsonb_to_recordset(%s::jsonb) AS r (type text, id uuid)
 WHERE t.tenant = %s AND t.type = r.type AND t.id = r.id
"""
DELETE_VALUES: LiteralString = """
DELETE FROM {table} t
 USING jsonb_to_recordset(%s::jsonb) AS v (type text, path text, folded text, id uuid)
 WHERE t.tenant = %s AND t.type = v.type AND t.path = v.path AND t.folded = v.folded AND t.id = v.id
"""
INSERT_VALUES: LiteralString = """
INSERT INTO {table} (tenant, type, path, folded, id)
SELECT %s, type, path, folded, id
  FROM jsonb_to_recordset(%s::jsonb) AS v (type text, path text, folded text, id uuid)
"""
DELETE_UNIQUE = DELETE_VALUES.format(table="unique_values")
INSERT_UNIQUE = INSERT_VALUES.format(table="unique_values")
DELETE_LOOKUP = DELETE_VALUES.format(table="lookup_values")
INSERT_LOOKUP = INSERT_VALUES.format(table="lookup_values")
CLEAR_MEMBERS = """
DELETE FROM members m
 WHERE m.tenant = %s AND m.group_id = ANY(%s)
   AND NOT EXISTS (SELECT FROM jsonb_to_recordset(%s::jsonb) AS k (group_id uuid, member_id uuid)
                    WHERE k.group_id = m.group_id AND k.member_id = m.member_id)
"""
DELETE_MEMBERS = """
DELETE FROM members m USING jsonb_to_recordset(%s::jsonb) AS p (group_id uuid, member_id uuid)
 WHERE m.tenant = %s AND m.group_id = p.group_id AND m.member_id = p.member_id
"""
INSERT_MEMBERS = """
INSERT INTO members (tenant, group_id, member_id, member_type, display)
SELECT %s, group_id, member_id, member_type, display
  FROM jsonb_to_recordset(%s::jsonb)
       AS p (group_id uuid, member_id uuid, member_type text, display text)
ON CONFLICT (tenant, group_id, member_id) DO NOTHING
"""
ADD_TOTALS = """
INSERT INTO totals (tenant, type, total)
SELECT %s, type, difference FROM jsonb_to_recordset(%s::jsonb) AS d (type text, difference bigint)
ON CONFLICT (tenant, type) DO UPDATE SET total = totals.total + excluded.total
"""
LOG = """
INSERT INTO change_log (tenant, accepted_at, change_id, stream_id, operation, resource_type, resource_id,
                        token_id, request_id, body, applied_at, status, scim_type, detail, version)
SELECT %s, accepted_at, change_id, stream_id, operation, resource_type, resource_id,
       token_id, request_id, body, %s, status, scim_type, detail, version
  FROM jsonb_to_recordset(%s::jsonb)
       AS c (accepted_at timestamptz, change_id uuid, stream_id text, operation text, resource_type text,
             resource_id uuid, token_id text, request_id text, body jsonb, status smallint,
             scim_type text, detail text, version bigint)
"""
BURY = """
INSERT INTO dead_letters (tenant, accepted_at, change_id, change, reason, traceback, attempts, failed_at)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
"""
KEEP_CHANGE_LOG = "SELECT usher_keep_change_log(%s)"


class ConstraintHit(errors.UsherError):
    """A constraint of the schema refused the batch: the decision in memory and the store disagree."""


class _PartitionMissing(errors.UsherError):
    """The change log has no partition for a month: the sweep was away at its beginning."""


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
                _begin(connection, tenant)
                cursor = connection.execute(RAISE, (tenant,))
                connection.execute("COMMIT")
            rows = cursor.fetchall()
        if not rows:
            raise errors.TenantGone(f"tenant {tenant}")
        return int(rows[0][0])

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
        """
        try:
            return self._apply(tenant, epoch, registry, entries)
        except _PartitionMissing:
            for _, change in entries:
                self.keep_change_log(change.accepted_at)
            return self._apply(tenant, epoch, registry, entries)

    def _apply(
        self,
        tenant: ids.TenantId,
        epoch: int,
        registry: schemas.Registry,
        entries: Sequence[Entry],
    ) -> list[records.Outcome]:
        changes = [change for _, change in entries]
        needs = snapshots.Needs()
        for change in changes:
            with _blamed_on(change):
                snapshots.ask(needs, registry, change)
        with self._transaction() as connection, connection.pipeline() as pipeline:
            snapshot = _read(connection, pipeline, tenant, epoch, registry, changes, needs)
            unit = units.Unit(registry, snapshot)
            outcomes = []
            for change in changes:
                with _blamed_on(change):
                    outcomes.append(unit.apply(change))
            positions = {change.change_id: stream_id for stream_id, change in entries}
            _write(connection, tenant, registry, snapshot.now, unit.writes(), positions)
        return outcomes

    def bury(
        self, tenant: ids.TenantId, epoch: int, entry: Entry, *, reason: str, traceback: str, attempts: int
    ) -> records.Outcome:
        """Make a change a dead letter, with its outcome 500 in the change log; safe to repeat.

        Raises:
            StoreUnavailable: PostgreSQL is away.
            DrainSuperseded: a younger drain has taken over.
        """
        stream_id, change = entry
        outcome = records.Outcome(
            change.change_id, 500, detail="The change could not be applied; it is kept as a dead letter."
        )
        with self._transaction() as connection, connection.pipeline() as pipeline:
            snapshot = _read(connection, pipeline, tenant, epoch, None, [change], snapshots.Needs())
            before = snapshot.applied.get(change.change_id)
            if before is not None:
                connection.execute("ROLLBACK")
                return before
            key = (tenant, change.accepted_at, change.change_id)
            letter = Jsonb(orjson.loads(change.encode()))
            connection.execute(BURY, (*key, letter, reason, traceback, attempts, snapshot.now))
            writes = units.Writes(logged=[units.Logged(change, outcome)])
            _write(connection, tenant, None, snapshot.now, writes, {change.change_id: stream_id})
        return outcome

    def keep_change_log(self, moment: datetime.datetime) -> None:
        """Make sure that the change log has a partition for the month of `moment`."""
        with self._transaction() as connection:
            connection.execute(KEEP_CHANGE_LOG, (moment,))

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection[TupleRow]]:
        """Lend the connection to a body that begins and commits; on any error nothing stays open."""
        try:
            with databases.wrapped():
                if self._connection is None or self._connection.closed:
                    self._connection = psycopg.connect(self._conninfo, autocommit=True)
                yield self._connection
        except psycopg.errors.CheckViolation as exc:
            self._abandon()
            if exc.diag.constraint_name is not None:
                raise ConstraintHit(f"PostgreSQL: {exc.diag.message_primary}") from exc
            raise _PartitionMissing("PostgreSQL: the change log has no partition for that month") from exc
        except psycopg.IntegrityError as exc:
            self._abandon()
            raise ConstraintHit(f"PostgreSQL: {exc.diag.message_primary}") from exc
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        connection = self._connection
        if connection is None:
            return
        status = connection.pgconn.transaction_status
        try:
            if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
                connection.execute("ROLLBACK")
            elif status != TransactionStatus.IDLE:
                self.close()
        except psycopg.Error:
            self.close()


@contextlib.contextmanager
def _blamed_on(change: records.Change) -> Iterator[None]:
    """Name the change that raised: the body is pure, so whatever it is, it is this change's doing."""
    try:
        yield
    except Exception as exc:
        raise ChangeBroken(change) from exc


def _begin(connection: psycopg.Connection[TupleRow], tenant: ids.TenantId) -> None:
    connection.execute("BEGIN")
    connection.execute(*databases.set_tenant(tenant))


def _read(
    connection: psycopg.Connection[TupleRow],
    pipeline: psycopg.Pipeline,
    tenant: ids.TenantId,
    epoch: int,
    registry: schemas.Registry | None,
    changes: Sequence[records.Change],
    needs: snapshots.Needs,
) -> snapshots.Snapshot:
    kinds = [] if registry is None else [resource_type.name for resource_type in registry.resource_types]
    asked: dict[str, psycopg.Cursor[TupleRow]] = {}

    def ask(name: str, condition: object, text: LiteralString, *values: object) -> None:
        if condition:
            asked[name] = connection.execute(text, values)

    _begin(connection, tenant)
    ask("lock", True, LOCK, tenant)
    accepted, change_ids = [c.accepted_at for c in changes], [c.change_id for c in changes]
    ask("applied", changes, READ_APPLIED, accepted, change_ids, tenant)
    ask("resources", needs.resources, READ_RESOURCES, tenant, kinds, list(needs.resources))
    if needs.owners:
        ask("owners", True, READ_OWNERS, *map(list, zip(*needs.owners, strict=True)), tenant)
    if needs.pairs:
        ask("pairs", True, READ_PAIRS, *map(list, zip(*needs.pairs, strict=True)), tenant)
    ask("targets", needs.targets, READ_TARGETS, tenant, kinds, list(needs.targets))
    ask("counted", needs.counted, READ_COUNTED, tenant, list(needs.counted))
    ask("left", needs.left, READ_LEFT, tenant, list(needs.left))
    pipeline.sync()
    rows = {name: cursor.fetchall() for name, cursor in asked.items()}
    if not rows["lock"] or rows["lock"][0][0] != epoch:
        raise errors.DrainSuperseded(f"tenant {tenant}: epoch {epoch} is over")
    snapshot = snapshots.Snapshot(now=rows["lock"][0][1])
    for change_id, status, scim_type, detail, version in rows.get("applied", ()):
        snapshot.applied[change_id] = records.Outcome(change_id, status, scim_type, detail, version)
    found = rows.get("resources", [])
    if again := [
        c.resource_id for c in changes if c.operation == "create" and c.change_id in snapshot.applied
    ]:
        # A redelivered create: its answer shows the resource that it made.
        cursor = connection.execute(READ_RESOURCES, (tenant, kinds, again))
        pipeline.sync()
        found += cursor.fetchall()
    for row in found:
        snapshot.resources[row[1]] = snapshots.Stored(*row)
    snapshot.owners = dict.fromkeys(needs.owners)
    for kind, path, folded, holder in rows.get("owners", ()):
        snapshot.owners[snapshots.UniqueKey(kind, path, folded)] = holder
    snapshot.pairs = {(group, member) for group, member in rows.get("pairs", ())}
    snapshot.targets = dict(rows.get("targets", ()))
    snapshot.counted = dict.fromkeys(needs.counted, 0) | dict(rows.get("counted", ()))
    snapshot.left = {member: set() for member in needs.left}
    for row in rows.get("left", ()):
        group = snapshots.Stored(*row[1:])
        snapshot.left[row[0]].add(group.id)
        snapshot.pairs.add((group.id, row[0]))
        snapshot.resources.setdefault(group.id, group)
    return snapshot


def _write(
    connection: psycopg.Connection[TupleRow],
    tenant: ids.TenantId,
    registry: schemas.Registry | None,
    now: datetime.datetime,
    writes: units.Writes,
    positions: Mapping[ids.ChangeId, str],
) -> None:
    """Write the result of a batch, one statement a table and kind, and commit."""
    rows = rowsets.derive(registry, writes, positions)
    if rows.cleared:
        connection.execute(CLEAR_MEMBERS, (tenant, rows.cleared, Jsonb(rows.kept)))
    for text, data in (
        (DELETE_MEMBERS, rows.left),
        (DELETE_UNIQUE, rows.unique_removed),
        (DELETE_LOOKUP, rows.lookup_removed),
        (DELETE_RESOURCES, rows.deleted),
        (UPDATE_RESOURCES, rows.updated),
    ):
        if data:
            connection.execute(text, (Jsonb(data), tenant))
    for text, data in (
        (INSERT_RESOURCES, rows.inserted),
        (INSERT_UNIQUE, rows.unique_added),
        (INSERT_LOOKUP, rows.lookup_added),
        (INSERT_MEMBERS, rows.joined),
        (ADD_TOTALS, rows.totals),
    ):
        if data:
            connection.execute(text, (tenant, Jsonb(data)))
    if rows.logged:
        connection.execute(LOG, (tenant, now, Jsonb(rows.logged)))
    connection.execute("COMMIT")
