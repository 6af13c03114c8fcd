"""The identifiers that travel through Usher, and how new ones are made."""

from __future__ import annotations

import uuid
from typing import NewType

import uuid_utils

TenantId = NewType("TenantId", uuid.UUID)
ResourceId = NewType("ResourceId", uuid.UUID)
ChangeId = NewType("ChangeId", uuid.UUID)
TokenId = NewType("TokenId", str)


def new_uuid() -> uuid.UUID:
    """Make a UUID of version 7: unique, and ordered by the time it was made (RFC 9562 §5.7)."""
    return uuid.UUID(bytes=uuid_utils.uuid7().bytes)
