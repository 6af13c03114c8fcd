"""Reading the change log, which is the audit log; `usher changes`, `usher queue` and their kin ask here.

The log is partitioned by the moment of acceptance and its key begins with tenant and moment, so every
statement bounds `accepted_at`. A batch takes its `applied_at`, and commits, under the tenant's lock: that and
the position in the stream are the order in which changes took effect. Nothing here writes; `note` makes the
statements for who does.
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, Literal

from usher_core import errors, ids
from usher_core.changes import policies, records
from usher_core.scim import documents, schemas
from usher_core.store import databases
from usher_core.store.expressions import Expression, conjunction, disjunction

State = Literal["pending", "applied", "refused", "dead", "failed"]
Keyset = tuple[datetime.datetime, ids.ChangeId]

BEGINNING: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
# An id of a change is made in the same breath as its moment of acceptance.
CLOSE: Final = datetime.timedelta(seconds=10)
LAST: Final = 2**63
# Tenants asked for in one round trip.
AT_ONCE: Final = 200

SELECT = """
SELECT l.tenant, l.accepted_at, l.change_id, l.stream_id, l.operation, l.resource_type, l.resource_id,
       l.token_id, l.request_id, l.applied_at, l.status, l.scim_type, l.detail, l.version,
       d.change_id IS NOT NULL, l.bulk_id, l.bulk_index, {body}
  FROM change_log l
  LEFT JOIN dead_letters d ON l.status >= 500 AND d.tenant = l.tenant AND d.accepted_at = l.accepted_at
                          AND d.change_id = l.change_id
 WHERE {condition} {order}
"""
NEWEST_FIRST = "ORDER BY l.accepted_at DESC, l.change_id DESC LIMIT %s"
LAST_APPLIED_FIRST = "ORDER BY l.applied_at DESC LIMIT %s"
STATES: Final[Mapping[State, str]] = {
    "applied": "l.status < 400",
    "refused": "l.status BETWEEN 400 AND 499",
    "dead": "(l.status >= 500 AND d.change_id IS NOT NULL)",
    "failed": "(l.status >= 500 AND d.change_id IS NULL)",
}
TENANTS = "SELECT tenant, namespace, name, deleted_at FROM usher_tenants() ORDER BY namespace, name"
NAMED = """
SELECT id FROM unique_values WHERE tenant = %s AND type = %s AND path = 'userName' AND folded = %s
 UNION SELECT id FROM resources WHERE tenant = %s AND type = %s AND external_id = %s
"""
DELETED = """
SELECT id, document ->> 'userName', document ->> 'externalId' FROM deleted_resources
 WHERE tenant = %s AND type = %s
"""
LOGGED = """
SELECT l.change_id FROM unnest(%s::timestamptz[], %s::uuid[]) AS k (accepted_at, change_id)
  JOIN change_log l ON l.tenant = %s AND l.accepted_at = k.accepted_at AND l.change_id = k.change_id
"""
PROMISED = "SELECT entry FROM inbox WHERE tenant = %s AND change_id = %s"
RATE = "SELECT count(*) FROM change_log WHERE tenant = %s AND accepted_at > %s AND applied_at > %s"
LOCK = "SELECT epoch FROM drains WHERE tenant = %s FOR UPDATE"
NOTE = """
INSERT INTO change_log (tenant, accepted_at, change_id, stream_id, operation, resource_type, resource_id,
                        token_id, request_id, body, applied_at, status, detail)
VALUES (%s, %s, %s, '', %s, %s, %s, '', %s, NULL, clock_timestamp(), 200, %s)
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant by the names of its manifest; one that was deleted may have kept its log."""

    tenant: ids.TenantId
    namespace: str
    name: str
    deleted_at: datetime.datetime | None

    @property
    def label(self) -> str:
        """Its name as commands write and take it."""
        return f"{self.namespace}/{self.name}"


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """A change with what became of it; `status` and `applied_at` are `None` while it waits in its stream.

    `body` is there only where it was asked for. `is_dead`: it is kept as a dead letter. Operations of a bulk
    name the bulk and their place there.
    """

    tenant: ids.TenantId
    accepted_at: datetime.datetime
    change_id: ids.ChangeId
    stream_id: str
    operation: str
    resource_type: str
    resource_id: ids.ResourceId
    token_id: str
    request_id: str
    applied_at: datetime.datetime | None = None
    status: int | None = None
    scim_type: str | None = None
    detail: str | None = None
    version: int | None = None
    is_dead: bool = False
    bulk_id: ids.ChangeId | None = None
    bulk_index: int | None = None
    body: Any = None

    @property
    def state(self) -> State:
        """How far the change has come."""
        if self.status is None:
            return "pending"
        if self.status < 500:
            return "applied" if self.status < 400 else "refused"
        return "dead" if self.is_dead else "failed"

    @property
    def order(self) -> tuple[datetime.datetime, int, int, int, int]:
        """Where the change stands among those of its tenant that were applied."""
        milliseconds, _, number = self.stream_id.partition("-")
        # The operations of a bulk share moment and position, and need not be applied in the order of their
        # places: of one resource its versions tell the order, at whose end stands a deletion.
        version = LAST if self.version is None else self.version
        place = (version, self.bulk_index or 0) if self.bulk_id is not None else (0, 0)
        return (self.applied_at or BEGINNING, int(milliseconds or 0), int(number or 0), *place)


@dataclasses.dataclass(frozen=True, slots=True)
class Subject:
    """Whom changes are about: resources by id, and the name that bodies may call a user by."""

    ids: frozenset[ids.ResourceId]
    name: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Selection:
    """Which changes to list: those accepted from `since` on and before `until`, and all the rest that holds.

    `before` is the place where an earlier page ended. `subject` also finds the groups' changes that name one
    of its ids.
    """

    since: datetime.datetime
    until: datetime.datetime
    before: Keyset | None = None
    resource: ids.ResourceId | None = None
    subject: Subject | None = None
    states: frozenset[State] = frozenset()
    tokens: frozenset[str] | None = None


async def list_tenants(database: databases.Database) -> list[Tenant]:
    """List every tenant, deleted ones too, by name."""
    [rows] = await database.fetch(None, (TENANTS, ()))
    return [Tenant(*row) for row in rows]


async def page(
    database: databases.Database, tenant: ids.TenantId, selection: Selection, limit: int
) -> list[Entry]:
    """List changes, the one accepted last first, without their bodies."""
    wanted = [_of(tenant, selection.since), Expression("l.accepted_at < %s", (selection.until,))]
    if selection.before is not None:
        wanted.append(Expression("(l.accepted_at, l.change_id) < (%s, %s)", selection.before))
    conditions = conjunction(*wanted, *_selected(selection))
    return await _read(database, tenant, conditions, NEWEST_FIRST, limit)


async def accepted_since(
    database: databases.Database, tenant: ids.TenantId, selection: Selection
) -> list[Entry]:
    """List all that was accepted since a moment and is applied by now, in the order of its application."""
    conditions = conjunction(_of(tenant, selection.since), *_selected(selection))
    found = await _read(database, tenant, conditions, "")
    return sorted(found, key=lambda entry: entry.order)


async def find(
    database: databases.Database, tenants: Sequence[ids.TenantId], change_id: ids.ChangeId
) -> Entry | None:
    """Find one change with its body, whichever of the tenants it is of.

    The id tells when it was made; of one tenant alone the whole log is searched if it is not there.
    """
    made = moment_of(change_id)
    if made is not None:
        found = await _find(database, tenants, change_id, made - CLOSE, made + CLOSE)
        if found is not None:
            return found
    if len(tenants) != 1:
        return None
    return await _find(database, tenants, change_id, BEGINNING, _end())


async def find_promised(
    database: databases.Database, tenants: Sequence[ids.TenantId], change_id: ids.ChangeId
) -> Entry | None:
    """Find a change that was promised before its turn, and may be in no stream just now."""
    statements = {tenant: (PROMISED, (tenant, change_id)) for tenant in tenants}
    for tenant, rows in (await fetch_each(database, statements)).items():
        for (data,) in rows:
            return from_change(tenant, "", records.Change.decode(data))
    return None


async def logged(
    database: databases.Database, tenant: ids.TenantId, keys: Iterable[Keyset]
) -> set[ids.ChangeId]:
    """Tell which of these changes are in the log."""
    listed = list(keys)
    moments, changes = [key[0] for key in listed], [key[1] for key in listed]
    [rows] = await database.fetch(tenant, (LOGGED, (moments, changes, tenant)))
    return {row[0] for row in rows}


async def parts(database: databases.Database, bulk: Entry) -> list[Entry]:
    """List the operations of a bulk that are applied by now, in their order there."""
    # They were accepted with it, in one moment.
    conditions = conjunction(
        _of(bulk.tenant, bulk.accepted_at),
        Expression("l.accepted_at <= %s AND l.bulk_id = %s", (bulk.accepted_at, bulk.change_id)),
    )
    found = await _read(database, bulk.tenant, conditions, "")
    return sorted(found, key=lambda entry: entry.bulk_index or 0)


async def find_subject(database: databases.Database, tenant: ids.TenantId, text: str) -> Subject:
    """Find whom an id, a userName or an externalId means; deleted users count while they are kept."""
    try:
        return Subject(frozenset({ids.ResourceId(uuid.UUID(text))}))
    except ValueError:
        folded = fold_name(text)
    kind = policies.USERS
    living, deleted = await database.fetch(
        tenant, (NAMED, (tenant, kind, folded, tenant, kind, text)), (DELETED, (tenant, kind))
    )
    found = {row[0] for row in living}
    found |= {row[0] for row in deleted if row[2] == text or (row[1] and fold_name(row[1]) == folded)}
    return Subject(frozenset(found), text)


async def history(database: databases.Database, entry: Entry, *, limit: int) -> list[Entry]:
    """List the changes of a resource that took effect, up to and including one of them, in order.

    At most `limit`, the last ones. An id of a resource tells when it was made, so nothing older is read.
    """
    since = (moment_of(entry.resource_id) or BEGINNING + CLOSE) - CLOSE
    conditions = conjunction(
        _of(entry.tenant, since),
        Expression("l.resource_id = %s", (entry.resource_id,)),
        Expression("l.applied_at <= %s", (entry.applied_at,)),
        Expression("l.status < 400"),
        Expression("l.operation IN ('create', 'replace', 'patch', 'delete', 'restore')"),
    )
    found = await _read(database, entry.tenant, conditions, LAST_APPLIED_FIRST, limit, body="l.body")
    return sorted((one for one in found if one.order <= entry.order), key=lambda one: one.order)


async def departures(
    database: databases.Database,
    tenant: ids.TenantId,
    members: Collection[ids.ResourceId],
    after: datetime.datetime,
    until: datetime.datetime,
) -> list[Entry]:
    """List when these resources left every group without any change of a group, in order.

    A deletion does that, and a create that revived an inactive user.
    """
    conditions = conjunction(
        _of(tenant, BEGINNING),
        Expression("l.resource_id = ANY(%s)", (list(members),)),
        Expression("l.applied_at BETWEEN %s AND %s", (after, until)),
        Expression("l.status < 400 AND (l.operation = 'delete' OR l.operation = 'create' AND l.version > 1)"),
    )
    found = await _read(database, tenant, conditions, "")
    return sorted(found, key=lambda entry: entry.order)


async def later(
    database: databases.Database, entry: Entry, subject: Subject, others: Collection[ids.ResourceId]
) -> list[Entry]:
    """List the changes that took effect after one: those about its subject, and comings and goings of others.

    In the order in which they were applied.
    """
    about = _about(subject)
    if others:
        moved = "l.resource_id = ANY(%s) AND l.operation IN ('create', 'delete', 'restore')"
        about = disjunction(about, Expression(f"({moved})", (list(others),)))
    conditions = conjunction(
        _of(entry.tenant, entry.accepted_at - datetime.timedelta(hours=1)),
        Expression("l.applied_at >= %s", (entry.applied_at,)),
        Expression("l.status < 400 AND l.operation <> 'discard'"),
        Expression("l.change_id <> %s", (entry.change_id,)),
        about,
    )
    found = await _read(database, entry.tenant, conditions, "")
    return sorted(found, key=lambda one: one.order)


async def count_applied(
    database: databases.Database,
    since: Mapping[ids.TenantId, datetime.datetime],
    after: datetime.datetime,
) -> dict[ids.TenantId, int]:
    """Count the changes of each tenant that were applied after a moment and accepted since another."""
    statements = {tenant: (RATE, (tenant, moment, after)) for tenant, moment in since.items()}
    answers = await fetch_each(database, statements)
    return {tenant: int(rows[0][0]) for tenant, rows in answers.items()}


def note(
    tenant: ids.TenantId,
    moment: datetime.datetime,
    about: Entry,
    operation: str,
    request_id: str,
    detail: str,
) -> list[databases.Statement]:
    """Make the statements that add what a person did to the log, in its order."""
    values = (
        tenant, moment, ids.new_uuid(), operation, about.resource_type, about.resource_id, request_id, detail,
    )  # fmt: skip
    return [("SELECT usher_keep_change_log(%s)", (moment,)), (LOCK, (tenant,)), (NOTE, values)]


async def fetch_each(
    database: databases.Database, statements: Mapping[ids.TenantId, databases.Statement]
) -> dict[ids.TenantId, list[Any]]:
    """Run a statement for each tenant, each under that tenant's name alone, many in one round trip."""
    found: dict[ids.TenantId, list[Any]] = {}
    listed = list(statements.items())
    for begin in range(0, len(listed), AT_ONCE):
        chunk = listed[begin : begin + AT_ONCE]
        sent = [one for tenant, statement in chunk for one in (databases.set_tenant(tenant), statement)]
        answers = await database.fetch(None, *sent)
        found.update(zip((tenant for tenant, _ in chunk), answers[1::2], strict=True))
    return found


def moment_of(made: uuid.UUID) -> datetime.datetime | None:
    """Tell when an id was made (RFC 9562 §5.7), to the millisecond; `None` for one that does not say."""
    if made.version != 7:
        return None
    try:
        return BEGINNING + datetime.timedelta(milliseconds=made.int >> 80)
    except OverflowError:
        return None


def from_change(tenant: ids.TenantId, position: str, change: records.Change) -> Entry:
    """Make the entry of a change that still waits."""
    return Entry(
        tenant, change.accepted_at, change.change_id, position, change.operation, change.resource_type,
        change.resource_id, change.token_id, change.request_id, body=change.body,
    )  # fmt: skip


def fold_name(name: str) -> str:
    """Bring a userName to the form in which it is compared."""
    return documents.fold(_user_name(), name)


@functools.cache
def _user_name() -> schemas.Attribute:
    found = schemas.default().by_name(policies.USERS).attribute("userName")
    if found is None:
        raise errors.NotFound("Users have no userName.")
    return found


async def _find(
    database: databases.Database,
    tenants: Sequence[ids.TenantId],
    change_id: ids.ChangeId,
    since: datetime.datetime,
    until: datetime.datetime,
) -> Entry | None:
    statements: dict[ids.TenantId, databases.Statement] = {}
    for tenant in tenants:
        conditions = conjunction(
            _of(tenant, since),
            Expression("l.accepted_at <= %s AND l.change_id = %s", (until, change_id)),
        )
        statements[tenant] = _statement(conditions, "", body="l.body")
    answers = await fetch_each(database, statements)
    return next((Entry(*row) for rows in answers.values() for row in rows), None)


async def _read(
    database: databases.Database,
    tenant: ids.TenantId,
    conditions: Expression,
    order: str,
    *values: Any,
    body: str = "NULL::jsonb",
) -> list[Entry]:
    text, given = _statement(conditions, order, body=body)
    [rows] = await database.fetch(tenant, (text, (*given, *values)))
    return [Entry(*row) for row in rows]


def _statement(conditions: Expression, order: str, *, body: str) -> databases.Statement:
    return SELECT.format(body=body, condition=conditions.text, order=order), conditions.values


def _of(tenant: ids.TenantId, since: datetime.datetime) -> Expression:
    return Expression("l.tenant = %s AND l.accepted_at >= %s", (tenant, since))


def _end() -> datetime.datetime:
    return records.now() + datetime.timedelta(days=1)


def _selected(selection: Selection) -> list[Expression]:
    wanted: list[Expression] = []
    if selection.resource is not None:
        wanted.append(Expression("l.resource_id = %s", (selection.resource,)))
    if selection.subject is not None:
        wanted.append(_about(selection.subject))
    if selection.states:
        states = [STATES[state] for state in sorted(selection.states) if state in STATES]
        wanted.append(disjunction(*(Expression(text) for text in states)) if states else Expression("false"))
    if selection.tokens is not None:
        wanted.append(Expression("l.token_id = ANY(%s)", (sorted(selection.tokens),)))
    return wanted


def _about(subject: Subject) -> Expression:
    listed = list(subject.ids)
    choices = [
        Expression("l.resource_id = ANY(%s)", (listed,)),
        # What names a user: the changes of groups. An id stands in no other text by chance.
        Expression(
            "(l.resource_type <> %s AND l.body::text LIKE ANY(%s))",
            (policies.USERS, [f"%{one}%" for one in listed]),
        ),
    ]
    if subject.name is not None:
        # Who was called so once, and whose creation was refused: nothing else remembers them.
        choices.append(
            Expression(
                "(l.resource_type = %s AND (lower((l.body ->> 'userName') COLLATE \"C\") = %s"
                " OR l.body ->> 'externalId' = %s))",
                (policies.USERS, fold_name(subject.name), subject.name),
            )
        )
    return disjunction(*choices)
