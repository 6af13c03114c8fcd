from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher_core.tenants import tokens

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TTL = timedelta(days=90)


def issue() -> tokens.IssuedToken:
    return tokens.issue("okta", "administrator", TTL, NOW)


def test_an_issued_token_parses_to_its_own_id_and_digest() -> None:
    issued = issue()
    parsed = tokens.parse(issued.text)
    assert parsed.token_id == issued.record.token_id
    assert tokens.matches(parsed.digest, issued.record)


def test_a_token_reads_prefix_id_secret_checksum() -> None:
    prefix, token_id, secret, checksum = issue().text.split("_")
    assert (prefix, len(token_id), len(secret), len(checksum)) == ("usher", 16, 43, 8)


def test_no_token_is_issued_twice() -> None:
    assert len({issue().text for _ in range(100)}) == 100
    assert len({issue().record.token_id for _ in range(100)}) == 100


def test_a_token_matches_no_other_record() -> None:
    assert not tokens.matches(tokens.parse(issue().text).digest, issue().record)


def test_the_clear_text_is_in_no_repr() -> None:
    issued = issue()
    secret = issued.text.split("_")[2]
    for shown in (repr(issued), str(issued), repr(issued.record), repr(tokens.parse(issued.text))):
        assert secret not in shown
        assert issued.record.digest.hex() not in shown
        assert repr(issued.record.digest) not in shown


def test_a_record_holds_the_digest_alone_and_expires_after_the_ttl() -> None:
    record = issue().record
    assert (record.name, record.role, len(record.digest)) == ("okta", "administrator", 32)
    assert record.expires_at - record.issued_at == TTL


@pytest.mark.parametrize(
    ("ttl", "allowed"),
    [
        pytest.param(timedelta(days=365), True, id="the-longest"),
        pytest.param(timedelta(days=365, seconds=1), False, id="a-second-too-long"),
        pytest.param(timedelta(0), False, id="none"),
        pytest.param(timedelta(seconds=-1), False, id="negative"),
    ],
)
def test_a_token_lives_at_most_365_days(ttl: timedelta, allowed: bool) -> None:
    if allowed:
        assert tokens.issue("okta", "reader", ttl, NOW).record.expires_at == NOW + ttl
    else:
        with pytest.raises(ValueError, match="365 days"):
            tokens.issue("okta", "reader", ttl, NOW)


GOOD = issue().text


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("usher_", id="the-prefix-alone"),
        pytest.param(GOOD[:-1], id="last-character-lost"),
        pytest.param(GOOD + "0", id="a-character-more"),
        pytest.param(GOOD + "\n", id="line-feed-at-the-end"),
        pytest.param(GOOD.upper(), id="upper-case"),
        pytest.param(GOOD[6:], id="without-prefix"),
        pytest.param(GOOD.replace("usher", "USHER"), id="prefix-in-upper-case"),
        pytest.param(GOOD.replace("_", "-"), id="hyphens"),
        pytest.param(GOOD[:10] + "é" + GOOD[11:], id="not-ascii"),
        pytest.param(GOOD[:30] + "٣" + GOOD[31:], id="an-arabic-digit"),
    ],
)
def test_what_is_not_of_the_form_is_refused(text: str) -> None:
    with pytest.raises(tokens.TokenMalformed) as refused:
        tokens.parse(text)
    assert len(text) < 10 or text not in str(refused.value)


@given(place=st.integers(0, len(GOOD) - 1), other=st.characters(codec="ascii"))
def test_any_changed_character_is_noticed_without_a_query(place: int, other: str) -> None:
    changed = GOOD[:place] + other + GOOD[place + 1 :]
    if changed == GOOD:
        return
    with pytest.raises(tokens.TokenMalformed):
        tokens.parse(changed)
