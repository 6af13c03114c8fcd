"""Bearer tokens: how they look, how they are made, told apart and compared.

Called by `reconciliations` (issue) and `authentications` (parse, compare). A token reads
`usher_<id>_<secret>_<checksum>`: a prefix that secret scanners know, the id by which it is looked up,
256 random bits, and a CRC-32 by which a damaged one is refused without a query. Only its SHA-256 is
stored: 256 random bits need no slow hash.

Invariant: the clear text stands in `IssuedToken.text` alone, and no repr shows it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import hmac
import re
import secrets
import zlib
from datetime import datetime, timedelta
from typing import Literal, TypeAlias

from usher_core import ids
from usher_core.store import tenants

Role: TypeAlias = Literal["administrator", "reader"]

PREFIX = "usher_"
ID_LENGTH = 16
SECRET_LENGTH = 43  # 62 ** 43 > 2 ** 256
LONGEST_LIFE = timedelta(days=365)

_ID_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
_SECRET_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"  # noqa: S105 - an alphabet
_CHECKSUM_LENGTH = 8
_FORM = re.compile(r"usher_([0-9a-z]{16})_[0-9A-Za-z]{43}_([0-9a-f]{8})")


class TokenMalformed(ValueError):
    """The text is no token of this service, or a damaged one; the message never quotes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token at the only moment when its text is known."""

    text: str = dataclasses.field(repr=False)
    record: tenants.TokenRow


@dataclasses.dataclass(frozen=True, slots=True)
class ParsedToken:
    """What a presented token is looked up and compared by."""

    token_id: ids.TokenId
    digest: bytes = dataclasses.field(repr=False)


def issue(name: str, role: Role, ttl: timedelta, now: datetime) -> IssuedToken:
    """Make a new token that lives for `ttl`.

    Raises:
        ValueError: a life of no length, or of more than 365 days.
    """
    if not timedelta(0) < ttl <= LONGEST_LIFE:
        raise ValueError("a token lives longer than 0 and at most 365 days")
    token_id = ids.TokenId("".join(secrets.choice(_ID_ALPHABET) for _ in range(ID_LENGTH)))
    body = f"{PREFIX}{token_id}_{_base62(secrets.randbits(256))}"
    text = f"{body}_{zlib.crc32(body.encode('ascii')):0{_CHECKSUM_LENGTH}x}"
    record = tenants.TokenRow(
        token_id=token_id,
        name=name,
        digest=hashlib.sha256(text.encode("ascii")).digest(),
        role=role,
        issued_at=now,
        expires_at=now + ttl,
    )
    return IssuedToken(text, record)


def parse(text: str) -> ParsedToken:
    """Read a presented token.

    Raises:
        TokenMalformed: not of the form, or the checksum is wrong.
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise TokenMalformed("not of the form usher_<id>_<secret>_<checksum>")
    token_id, checksum = match.groups()
    raw = text.encode("ascii")
    if zlib.crc32(raw[: -_CHECKSUM_LENGTH - 1]) != int(checksum, 16):
        raise TokenMalformed("the checksum is wrong: a character was changed or lost")
    return ParsedToken(ids.TokenId(token_id), hashlib.sha256(raw).digest())


def matches(digest: bytes, record: tenants.TokenRow | tenants.FoundToken) -> bool:
    """Compare a presented digest with the stored one, in a time that tells nothing."""
    return hmac.compare_digest(digest, record.digest)


def _base62(number: int) -> str:
    digits = []
    for _ in range(SECRET_LENGTH):
        number, rest = divmod(number, 62)
        digits.append(_SECRET_ALPHABET[rest])
    return "".join(reversed(digits))
