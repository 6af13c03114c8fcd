"""The Authorization header: our own bearer token is found in it, everything else refused in words.

Called by `authentications` for each request, before any query. Invariant: no message quotes the header.
"""

from __future__ import annotations

import re

from usher_core import errors
from usher_core.tenants import tokens

EXPECTED = "expected is 'Authorization: Bearer <token of this tenant>'"

_JWT = re.compile(r"eyJ[\w-]*\.[\w-]*\.[\w-]*(\.[\w-]*){0,2}")
_OTHER_SCHEMES = frozenset({"digest", "dpop", "hoba", "mutual", "negotiate", "ntlm", "oauth", "token"})


def refused(reason: str) -> errors.Unauthenticated:
    """Make the 401 that says why and what is expected."""
    return errors.Unauthenticated(f"{reason}; {EXPECTED}")


def parse(authorization: str | None) -> tokens.ParsedToken:
    """Read the header's value, `None` for one that is missing.

    Raises:
        Unauthenticated: it holds no token of ours.
    """
    text = _token_text(authorization)
    try:
        return tokens.parse(text)
    except tokens.TokenMalformed as exc:
        if _JWT.fullmatch(text):
            reason = "an OAuth access token (JWT) is not accepted"
        elif text.startswith(tokens.PREFIX):
            reason = f"the bearer token is damaged: {exc}"
        else:
            reason = f"the bearer token is not one of this service, which begin with {tokens.PREFIX}"
        raise refused(reason) from None


def _token_text(authorization: str | None) -> str:
    parts = authorization.split() if authorization is not None else []
    if not parts:
        raise refused("there is no Authorization header")
    scheme = parts[0].lower()
    if scheme == "bearer":
        if len(parts) != 2:
            raise refused("the Authorization header must hold one bearer token")
        return parts[1]
    if scheme == "basic":
        raise refused("Basic credentials (user name and password) are not accepted")
    if len(parts) > 1 or scheme in _OTHER_SCHEMES:
        raise refused("this authorization scheme is not accepted")
    # Okta's hand-made header carries the token without a scheme.
    return parts[0]
