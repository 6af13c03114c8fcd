"""What commands show of changes, dead letters and the queue, as JSON; personal values masked or not.

Pure: `commands` reads, this describes, `texts` writes it for people.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import orjson

from usher_core.operations import effects, masks, moments, standings
from usher_core.store import dead_letters, histories


@dataclasses.dataclass(frozen=True, slots=True)
class View:
    """How to show things: the names of tokens by their ids, and whether personal values may be seen."""

    reveal: bool = False
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def change(self, entry: histories.Entry, tenant: str) -> dict[str, Any]:
        """Describe a change."""
        return {
            "change": str(entry.change_id),
            "tenant": tenant,
            "state": entry.state,
            "acceptedAt": moments.iso(entry.accepted_at),
            "token": self._token(entry.token_id),
            "requestId": entry.request_id,
            "operation": entry.operation,
            "resourceType": entry.resource_type,
            "resourceId": str(entry.resource_id),
            "status": entry.status,
            "scimType": entry.scim_type,
            "detail": self._detail(entry.detail),
            "version": entry.version,
            "appliedAt": None if entry.applied_at is None else moments.iso(entry.applied_at),
            "ageSeconds": _age(entry),
            "position": entry.stream_id or None,
            "bulk": None
            if entry.bulk_id is None
            else {"change": str(entry.bulk_id), "index": entry.bulk_index},
        }

    def shown_change(
        self, entry: histories.Entry, tenant: str, effect: effects.Effect, before: int | None
    ) -> dict[str, Any]:
        """Describe a change with what came in and what it did; `before` counts what waits before it."""
        differences = None
        if effect.differences is not None:
            differences = [
                {
                    "path": self._path(one.path),
                    "before": self._value(one.path, one.before),
                    "after": self._value(one.path, one.after),
                }
                for one in effect.differences
            ]
        return self.change(entry, tenant) | {
            "waitingBefore": before,
            "body": self._body(entry.body),
            "differences": differences,
            "note": effect.note,
        }

    def letter(self, letter: dead_letters.Letter, tenant: str) -> dict[str, Any]:
        """Describe a dead letter."""
        change = letter.change
        return {
            "change": str(letter.change_id),
            "tenant": tenant,
            "acceptedAt": moments.iso(letter.accepted_at),
            "firstFailedAt": moments.iso(letter.first_failed_at),
            "lastFailedAt": moments.iso(letter.failed_at),
            "attempts": letter.attempts,
            "reason": letter.reason,
            "token": self._token(change.token_id),
            "requestId": change.request_id,
            "operation": change.operation if letter.is_readable else None,
            "resourceType": change.resource_type or None,
            "resourceId": str(change.resource_id) if letter.is_readable else None,
        }

    def shown_letter(self, letter: dead_letters.Letter, tenant: str) -> dict[str, Any]:
        """Describe a dead letter with what it holds and why it could not be applied."""
        static = letter.reason in ("WorkerDied", dead_letters.UNREADABLE) or self.reveal
        return self.letter(letter, tenant) | {
            "body": self._body(letter.change.body),
            "traceback": letter.traceback if static else masks.traceback(letter.traceback),
        }

    def _token(self, token_id: str) -> dict[str, Any] | None:
        return {"id": token_id, "name": self.tokens.get(token_id)} if token_id else None

    def _detail(self, detail: str | None) -> str | None:
        return detail if self.reveal or detail is None else masks.detail(detail)

    def _body(self, body: Any) -> Any:
        return body if self.reveal else masks.body(body)

    def _path(self, path: str) -> str:
        return path if self.reveal else masks.path(path)

    def _value(self, path: str, value: Any) -> Any:
        return value if self.reveal else masks.value(path, value)


def queue(queue: standings.Queue, *, whole: bool) -> dict[str, Any]:
    """Describe the queue; without `whole` only tenants with something to tell."""
    return {
        "at": moments.iso(queue.at),
        "workers": queue.workers,
        "busyWorkers": queue.busy,
        "queuedJobs": queue.jobs,
        "tenants": [
            {
                "tenant": one.name or None,
                "id": str(one.tenant),
                "pending": one.backlog.pending,
                "oldestSeconds": None if one.backlog.oldest is None else round(one.backlog.oldest, 3),
                "appliedPerSecond": round(one.rate, 2),
                "deadLetters": one.dead_letters,
                "drain": one.backlog.drain,
            }
            for one in queue.standings
            if whole or not one.is_quiet
        ],
    }


def as_json(value: Any, *, line: bool = False) -> str:
    """Write JSON, indented unless it is one line of many."""
    return orjson.dumps(value, option=0 if line else orjson.OPT_INDENT_2).decode()


def _age(entry: histories.Entry) -> float | None:
    if entry.applied_at is None:
        return None
    return max(round((entry.applied_at - entry.accepted_at).total_seconds(), 6), 0.0)
