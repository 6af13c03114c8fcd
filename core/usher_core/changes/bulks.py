"""A bulk as it travels: its operations, step by step, in the order in which they are to be applied.

The api packs a `Bulk` into one change of the stream, the worker unpacks it. Each operation is a change of its
own, with its own id and its own row in the change log, or was refused before it became one. `progresses`
applies it.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterable
from typing import Any

from usher_core import ids
from usher_core.changes import records


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """One operation: the change it asks for, or the refusal that it got before anything was applied.

    `needs`: the places of the creates that it refers to.
    """

    index: int
    content: records.Change | records.Outcome
    needs: tuple[int, ...] = ()


Step = tuple[Part, ...]
"""What is applied in one go: one operation, or creates that refer to each other."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bulk:
    """The operations of one bulk, step by step; after `fail_on_errors` errors no further one is begun."""

    change_id: ids.ChangeId
    fail_on_errors: int | None
    steps: tuple[Step, ...]

    def pack(self) -> dict[str, Any]:
        """Write the bulk as the body of its change; what all changes share is not repeated."""
        return {
            "failOnErrors": self.fail_on_errors,
            "steps": [[_pack(part) for part in step] for step in self.steps],
        }


def changes_of(steps: Iterable[Step]) -> list[records.Change]:
    """List the changes of some steps."""
    return [part.content for step in steps for part in step if isinstance(part.content, records.Change)]


def unpack(change: records.Change) -> Bulk:
    """Read what `Bulk.pack` wrote.

    Raises:
        ValueError: the body of the change is no bulk.
    """
    try:
        steps = tuple(tuple(_unpack(change, part) for part in step) for step in change.body["steps"])
        return Bulk(change.change_id, change.body["failOnErrors"], steps)
    except (TypeError, KeyError, AttributeError, IndexError) as exc:
        raise ValueError("not a bulk") from exc


def _pack(part: Part) -> list[Any]:
    content = part.content
    if isinstance(content, records.Outcome):
        return [part.index, part.needs, content.status, content.scim_type, content.detail]
    return [
        part.index,
        part.needs,
        str(content.change_id),
        content.operation,
        content.resource_type,
        str(content.resource_id),
        content.body,
        content.if_match,
    ]


def _unpack(bulk: records.Change, packed: list[Any]) -> Part:
    index, needs, *content = packed
    if isinstance(content[0], int):
        return Part(index, refusal(*content), tuple(needs))
    change_id, operation, kind, resource_id, body, if_match = content
    change = dataclasses.replace(
        bulk,
        change_id=ids.ChangeId(uuid.UUID(change_id)),
        operation=operation,
        resource_type=kind,
        resource_id=ids.ResourceId(uuid.UUID(resource_id)),
        body=body,
        if_match=None if if_match is None else tuple(if_match),
        reply_to="",
        part_of=(bulk.change_id, index),
    )
    return Part(index, change, tuple(needs))


NO_CHANGE = ids.ChangeId(uuid.UUID(int=0))
"""Stands for the id of what never became a change."""


def refusal(status: int, scim_type: str | None, detail: str | None) -> records.Outcome:
    """Make the outcome of an operation that was refused before it became a change."""
    return records.Outcome(NO_CHANGE, status, scim_type, detail)
