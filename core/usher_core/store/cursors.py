"""Cursors (RFC 9865): a position in an order, sealed, so that nobody can make one up or use it elsewhere.

The seal is an HMAC with a key of the tenant's own. It covers the query, which the cursor does not contain:
the client repeats it, and a cursor of another tenant, another query or another order does not open. Nothing
is kept on the server.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import hmac
import uuid
from typing import Final, NamedTuple

import orjson

from usher_core import errors, ids
from usher_core.store import databases
from usher_core.store.orders import Position

LIFETIME: Final = datetime.timedelta(hours=1)

KEY = "SELECT cursor_key FROM tenants WHERE tenant = %s"
_SEAL_SIZE: Final = 16
_KEPT_KEYS: Final = 10_000


class Cursor(NamedTuple):
    """Where a page begins: right after the position, or, backward, right before it."""

    position: Position
    backward: bool


class Keys:
    """The tenants' keys, read once and kept: they never change."""

    def __init__(self) -> None:
        self._keys: dict[ids.TenantId, bytes] = {}

    async def of(self, database: databases.Database, tenant: ids.TenantId) -> bytes:
        """Return a tenant's key.

        Raises:
            StoreUnavailable: PostgreSQL is away, or the tenant is being deleted.
        """
        key = self._keys.get(tenant)
        if key is None:
            [rows] = await database.fetch(tenant, (KEY, (tenant,)))
            if not rows:
                raise errors.StoreUnavailable(f"tenant {tenant} is gone")
            if len(self._keys) >= _KEPT_KEYS:
                self._keys.clear()
            key = self._keys[tenant] = bytes(rows[0][0])
        return key


def write(key: bytes, query: bytes, cursor: Cursor, now: datetime.datetime) -> str:
    """Seal a cursor for a query, which is told by any bytes that no other query has."""
    position = cursor.position
    payload = orjson.dumps(
        [int(now.timestamp()), cursor.backward, position.type, str(position.id), position.key]
    )
    return base64.urlsafe_b64encode(_seal(key, query, payload) + payload).decode().rstrip("=")


def read(key: bytes, query: bytes, text: str, now: datetime.datetime) -> Cursor:
    """Open a cursor.

    Raises:
        InvalidCursor: it was not made here, or for another query.
        ExpiredCursor: it was made more than `LIFETIME` ago.
    """
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except ValueError:
        data = b""
    seal, payload = data[:_SEAL_SIZE], data[_SEAL_SIZE:]
    if not hmac.compare_digest(seal, _seal(key, query, payload)):
        raise errors.InvalidCursor(
            "The cursor is not one that this query was answered with. Leave it empty to begin with the first"
            " page; filter, sortBy and sortOrder must stay the same from page to page."
        )
    made, backward, kind, resource_id, value = orjson.loads(payload)
    if now.timestamp() - made > LIFETIME.total_seconds():
        raise errors.ExpiredCursor(
            f"The cursor is older than {LIFETIME.total_seconds():.0f} seconds. Begin with the first page."
        )
    return Cursor(Position(kind, ids.ResourceId(uuid.UUID(resource_id)), value), backward)


def _seal(key: bytes, query: bytes, payload: bytes) -> bytes:
    digest = hashlib.sha256(query).digest()  # of one length, so that query and payload can't be shifted
    return hmac.digest(key, digest + payload, "sha256")[:_SEAL_SIZE]
