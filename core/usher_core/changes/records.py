"""A change as it travels from the api to the worker, and the outcome as it travels back.

Both are frozen and know their wire form, a JSON array: the stream and the reply lists carry bytes.
A change holds everything that applying it needs and nothing that may not be stored (no password).
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Mapping
from typing import Any, Final, Literal

import orjson

from usher_core import ids

Operation = Literal["create", "replace", "patch", "delete", "restore", "bulk", "schemas"]

TAKEN_ALONE: Final = frozenset({"bulk", "schemas"})
"""Operations that share no batch: a drain takes each from the stream by itself."""

EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
MICROSECOND = datetime.timedelta(microseconds=1)


def now() -> datetime.datetime:
    """Tell the time, in UTC, as precisely as PostgreSQL stores it."""
    return datetime.datetime.now(datetime.UTC)


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """One accepted write.

    `body` is the normalised document of a create or replace, the list of operations of a patch, `None` for
    a delete, and for a restore the document as it was when it was asked for. `if_match` lists the versions
    that the client would accept, `None` for any.
    `accepted_at` is set once, by the api: together with `change_id` it is the change's key for good.
    """

    change_id: ids.ChangeId
    accepted_at: datetime.datetime
    operation: Operation
    resource_type: str
    resource_id: ids.ResourceId
    body: Any
    if_match: tuple[int, ...] | None
    token_id: str
    request_id: str
    reply_to: str
    part_of: tuple[ids.ChangeId, int] | None = None
    """The bulk that the change came in, and its place among the operations there."""
    schemas_version: int = 0
    """The tenant's schemas that the body was read by: it is read again if others hold at its turn."""
    promised: bool = False
    """Whether it is in the inbox too, or has fences that stand: its turn takes them away."""
    told_later: bool = False
    """Whether the client was answered 202, and its outcome is told by an event."""

    def encode(self) -> bytes:
        """Write the change as a JSON array; what only some changes have stands last, as an object."""
        items = [
            self.change_id,
            (self.accepted_at - EPOCH) // MICROSECOND,
            self.operation,
            self.resource_type,
            self.resource_id,
            self.body,
            self.if_match,
            self.token_id,
            self.request_id,
            self.reply_to,
        ]
        more: dict[str, Any] = {}
        if self.part_of is not None:
            more["part_of"] = self.part_of
        for name in ("schemas_version", "promised", "told_later"):
            if value := getattr(self, name):
                more[name] = value
        if more:
            items.append(more)
        return orjson.dumps(items)

    @classmethod
    def decode(cls, data: bytes) -> Change:
        """Read what `encode` wrote.

        Raises:
            ValueError: the bytes are no change.
        """
        try:
            (
                change_id,
                accepted,
                operation,
                kind,
                resource_id,
                body,
                if_match,
                token,
                request,
                reply,
                *rest,
            ) = orjson.loads(data)
            more: dict[str, Any] = rest[0] if rest else {}
            part = more.get("part_of")
            return cls(
                ids.ChangeId(uuid.UUID(change_id)),
                EPOCH + accepted * MICROSECOND,
                operation,
                kind,
                ids.ResourceId(uuid.UUID(resource_id)),
                body,
                None if if_match is None else tuple(if_match),
                token,
                request,
                reply,
                (ids.ChangeId(uuid.UUID(part[0])), part[1]) if part else None,
                more.get("schemas_version", 0),
                more.get("promised", False),
                more.get("told_later", False),
            )
        except (TypeError, AttributeError, IndexError) as exc:
            raise ValueError("not a change") from exc

    def renamed(self, names: Mapping[ids.ResourceId, ids.ResourceId]) -> Change:
        """Put other ids in the place of those that this change knows resources by, wherever they stand.

        Only for ids that were made for this purpose: no other text of a body holds them.
        """
        body = orjson.dumps(self.body)
        for old, new in names.items():
            body = body.replace(str(old).encode(), str(new).encode())
        resource_id = names.get(self.resource_id, self.resource_id)
        return dataclasses.replace(self, resource_id=resource_id, body=orjson.loads(body))


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change: an HTTP status, and the resource or the error behind it.

    `document` is the resource as this change left it, without what is stored apart (a group's members);
    it is `None` for errors and deletions. `resource_id` is set where it may be another than the change's: a
    create that revived an inactive user is about that user.
    """

    change_id: ids.ChangeId
    status: int
    scim_type: str | None = None
    detail: str | None = None
    version: int | None = None
    created_at: datetime.datetime | None = None
    modified_at: datetime.datetime | None = None
    document: dict[str, Any] | None = None
    resource_id: ids.ResourceId | None = None

    @property
    def succeeded(self) -> bool:
        """Whether the change took effect (or had nothing left to do)."""
        return self.status < 400

    def encode(self) -> bytes:
        """Write the outcome as a JSON array; the resource's id is its last item, if there is one."""
        items = [
            self.change_id,
            self.status,
            self.scim_type,
            self.detail,
            self.version,
            _micros(self.created_at),
            _micros(self.modified_at),
            self.document,
        ]
        if self.resource_id is not None:
            items.append(self.resource_id)
        return orjson.dumps(items)

    @classmethod
    def decode(cls, data: bytes) -> Outcome:
        """Read what `encode` wrote."""
        items = orjson.loads(data)
        change_id, status, scim_type, detail, version, created, modified, document, *named = items
        return cls(
            ids.ChangeId(uuid.UUID(change_id)),
            status,
            scim_type,
            detail,
            version,
            _moment(created),
            _moment(modified),
            document,
            ids.ResourceId(uuid.UUID(named[0])) if named else None,
        )


def _micros(moment: datetime.datetime | None) -> int | None:
    return None if moment is None else (moment - EPOCH) // MICROSECOND


def _moment(micros: int | None) -> datetime.datetime | None:
    return None if micros is None else EPOCH + micros * MICROSECOND
