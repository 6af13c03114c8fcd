"""A cursor opens only where it was made, and only whole."""

from __future__ import annotations

import datetime
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher_core import errors, ids
from usher_core.store import cursors, orders

NOW = datetime.datetime(2030, 1, 31, tzinfo=datetime.UTC)
KEY, QUERY = b"k" * 32, b"query"
CURSOR = cursors.Cursor(orders.Position("User", ids.ResourceId(uuid.UUID(int=7)), "Zoë"), backward=True)
TEXT = cursors.write(KEY, QUERY, CURSOR, NOW)


@given(st.none() | st.text(st.characters(codec="utf-8")), st.booleans(), st.binary())
def test_a_cursor_comes_back_as_it_was_made(key: str | None, backward: bool, query: bytes) -> None:
    made = cursors.Cursor(orders.Position("User", ids.ResourceId(uuid.UUID(int=7)), key), backward)
    text = cursors.write(KEY, query, made, NOW)
    assert cursors.read(KEY, query, text, NOW) == made
    # RFC 9865 §2: unreserved characters of RFC 3986 only.
    assert set(text) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")


@pytest.mark.parametrize(
    ("key", "query", "text"),
    [
        pytest.param(b"x" * 32, QUERY, TEXT, id="another tenant's key"),
        pytest.param(KEY, b"other", TEXT, id="another query"),
        pytest.param(KEY, QUERY, TEXT[:-4], id="cut off"),
        pytest.param(KEY, QUERY, TEXT + "AAAA", id="longer"),
        pytest.param(KEY, QUERY, TEXT[:20], id="a seal alone"),
        pytest.param(KEY, QUERY, "A", id="too short to decode"),
        pytest.param(KEY, QUERY, "Zoë", id="no base64"),
        pytest.param(KEY, QUERY, TEXT + "\n", id="a line feed"),
    ],
)
def test_any_other_cursor_is_refused(key: bytes, query: bytes, text: str) -> None:
    with pytest.raises(errors.InvalidCursor):
        cursors.read(key, query, text, NOW)


@pytest.mark.parametrize("place", range(len(TEXT)))
def test_no_character_of_a_cursor_can_be_changed(place: int) -> None:
    changed = TEXT[:place] + ("B" if TEXT[place] == "A" else "A") + TEXT[place + 1 :]
    with pytest.raises(errors.InvalidCursor):
        cursors.read(KEY, QUERY, changed, NOW)


def test_a_cursor_expires_after_its_lifetime() -> None:
    assert cursors.read(KEY, QUERY, TEXT, NOW + cursors.LIFETIME) == CURSOR
    with pytest.raises(errors.ExpiredCursor, match="3600 seconds"):
        cursors.read(KEY, QUERY, TEXT, NOW + cursors.LIFETIME + datetime.timedelta(seconds=1))
