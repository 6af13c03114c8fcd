from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from usher_core import errors
from usher_core.tenants import credentials, tokens

ISSUED = tokens.issue("okta", "administrator", timedelta(days=1), datetime(2026, 1, 1, tzinfo=UTC))
TOKEN = ISSUED.text


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(f"Bearer {TOKEN}", id="bearer"),
        pytest.param(f"bearer {TOKEN}", id="lower-case"),
        pytest.param(f"BEARER {TOKEN}", id="upper-case"),
        pytest.param(f"Bearer   {TOKEN}", id="several-spaces"),
        pytest.param(f"  Bearer\t{TOKEN} ", id="spaces-around"),
        pytest.param(TOKEN, id="raw-as-oktas-hand-made-header"),
    ],
)
def test_our_token_is_found_in(header: str) -> None:
    assert credentials.parse(header).token_id == ISSUED.record.token_id


JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJib2IifQ.c2ln"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        pytest.param(None, "no Authorization header", id="missing"),
        pytest.param("", "no Authorization header", id="empty"),
        pytest.param("   ", "no Authorization header", id="spaces"),
        pytest.param("Bearer", "must hold one bearer token", id="no-token"),
        pytest.param(f"Bearer {TOKEN} {TOKEN}", "must hold one bearer token", id="two-tokens"),
        pytest.param(f"Bearer Bearer {TOKEN}", "must hold one bearer token", id="scheme-twice"),
        pytest.param("Basic dXNlcjpwYXNz", "Basic credentials", id="basic"),
        pytest.param("basic dXNlcjpwYXNz", "Basic credentials", id="basic-in-lower-case"),
        pytest.param(f"Bearer {JWT}", "OAuth access token", id="jwt"),
        pytest.param(JWT, "OAuth access token", id="raw-jwt"),
        pytest.param("OAuth abc", "authorization scheme is not accepted", id="oauth-scheme"),
        pytest.param("Digest username=bob", "authorization scheme is not accepted", id="digest"),
        pytest.param(f"Token {TOKEN}", "authorization scheme is not accepted", id="token-scheme"),
        pytest.param(f"Bearer {TOKEN[:-1]}", "is damaged", id="cut-off"),
        pytest.param(f"Bearer {TOKEN[:-1]}g", "is damaged", id="wrong-checksum"),
        pytest.param("Bearer abcdef", "begin with usher_", id="foreign-token"),
        pytest.param("abcdef", "begin with usher_", id="raw-foreign-token"),
    ],
)
def test_everything_else_is_401_that_says_why_and_what_is_expected(header: str | None, words: str) -> None:
    with pytest.raises(errors.Unauthenticated) as refused:
        credentials.parse(header)
    assert words in refused.value.detail
    assert "Authorization: Bearer <token of this tenant>" in refused.value.detail
    secret = (header or "").split()[-1:] or [""]
    assert len(secret[0]) < 10 or secret[0] not in refused.value.detail
