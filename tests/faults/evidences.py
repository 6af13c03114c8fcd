"""What is found when everything has come to rest: the change log, the events, what is left, the directory.

`collect` reads it, `checks` compares it with the history. The tables are read as their owner, past the links
that the faults broke; the directory is read over HTTP, as a client sees it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import psycopg
import redis

ROWS = """
SELECT change_id::text, request_id, operation, resource_type, resource_id::text, stream_id,
       (extract(epoch FROM applied_at) * 1000000)::bigint, status, version, bulk_id::text, bulk_index
  FROM change_log WHERE tenant = %s
"""
EVENTS = """
SELECT number, (extract(epoch FROM at) * 1000000)::bigint, kind, change_id::text, resource_type,
       resource_id::text, version, detail
  FROM events WHERE tenant = %s ORDER BY number
"""
INBOX = "SELECT change_id::text FROM inbox WHERE tenant = %s"
FENCES = "SELECT change_id::text FROM fences WHERE tenant = %s"
DEAD_LETTERS = "SELECT change_id::text FROM dead_letters WHERE tenant = %s"
NAMES = "SELECT folded, id::text FROM unique_values WHERE tenant = %s AND type = 'User' AND path = 'userName'"


@dataclasses.dataclass(frozen=True, slots=True)
class Row:
    """A row of the change log; `applied_at` in microseconds."""

    change_id: str
    request_id: str
    operation: str
    resource_type: str
    resource_id: str
    stream_id: str
    applied_at: int
    status: int
    version: int | None
    bulk_id: str | None = None
    bulk_index: int | None = None

    @property
    def order(self) -> tuple[int, int, int, int]:
        """Where it stands: batches by their time, within one the stream, a bulk by its parts."""
        milliseconds, _, sequence = self.stream_id.partition("-")
        place = 1_000_000 if self.bulk_index is None else self.bulk_index
        return self.applied_at, int(milliseconds), int(sequence or 0), place

    @property
    def position(self) -> tuple[int, int]:
        """Where it stood in its stream."""
        return self.order[1:3]


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """An event; `at` in microseconds."""

    number: int
    at: int
    kind: str
    change_id: str
    resource_type: str
    resource_id: str
    version: int | None = None
    detail: dict[str, Any] | None = None


@dataclasses.dataclass(slots=True)
class Evidence:
    """All that is found of one tenant. `users` and `groups` are as reads show them, in the form of `seen`."""

    rows: list[Row] = dataclasses.field(default_factory=list)
    events: list[Event] = dataclasses.field(default_factory=list)
    users: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    groups: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    inbox: list[str] = dataclasses.field(default_factory=list)
    fences: list[str] = dataclasses.field(default_factory=list)
    pending: int = 0
    dead_letters: list[str] = dataclasses.field(default_factory=list)


def pending(client: redis.Redis, connection: psycopg.Connection[Any], tenant: str) -> int:
    """Count what still waits for its turn."""
    left = int(client.xlen(f"usher:{{{tenant}}}:changes"))
    [(promised,)] = connection.execute("SELECT count(*) FROM inbox WHERE tenant = %s", (tenant,)).fetchall()
    return left + int(promised)


def collect(
    owner_url: str,
    redis_url: str,
    tenant: str,
    users: list[dict[str, Any]],
    groups: list[dict[str, Any]],
) -> Evidence:
    """Read what is found of a tenant; `users` and `groups` were read over HTTP."""
    with psycopg.connect(owner_url) as connection, redis.Redis.from_url(redis_url) as client:

        def ask(text: str) -> list[tuple[Any, ...]]:
            return connection.execute(text, (tenant,)).fetchall()

        return Evidence(
            rows=sorted((Row(*row) for row in ask(ROWS)), key=lambda row: row.order),
            events=[Event(*row) for row in ask(EVENTS)],
            users=users,
            groups=groups,
            names=dict(ask(NAMES)),
            inbox=[change for (change,) in ask(INBOX)],
            fences=[change for (change,) in ask(FENCES)],
            pending=int(client.xlen(f"usher:{{{tenant}}}:changes")),
            dead_letters=[change for (change,) in ask(DEAD_LETTERS)],
        )
