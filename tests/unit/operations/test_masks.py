"""What people are shown holds no personal value unless they ask, and every word of the protocol."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher_core.operations import masks

ID = "01a20c50-c195-73ee-9cae-9cf16b4822e3"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
M = masks.MASK


@pytest.mark.parametrize(
    ("body", "masked"),
    [
        pytest.param(
            {"schemas": ["urn:x"], "userName": "ada@x.io", "active": True, "externalId": "00u1"},
            {"schemas": ["urn:x"], "userName": M, "active": True, "externalId": M},
            id="document",
        ),
        pytest.param(
            {
                "emails": [{"value": "ada@x.io", "type": "work", "primary": True}],
                "name": {"givenName": "Ada"},
            },
            {"emails": [{"value": M, "type": "work", "primary": True}], "name": {"givenName": M}},
            id="complex attributes",
        ),
        pytest.param(
            {"members": [{"value": ID, "type": "User", "display": "Ada"}]},
            {"members": [{"value": ID, "type": "User", "display": M}]},
            id="members by their ids",
        ),
        pytest.param(
            {ENTERPRISE: {"employeeNumber": 7, "manager": {"value": "eve@x.io"}, "vip": True}},
            {ENTERPRISE: {"employeeNumber": M, "manager": {"value": M}, "vip": M}},
            id="numbers, flags, and a manager who is no id",
        ),
        pytest.param(
            [{"op": "replace", "path": 'emails[value eq "ada@x.io"].display', "value": "Ada"}],
            [{"op": "replace", "path": f'emails[value eq "{M}"].display', "value": M}],
            id="a filter in a path",
        ),
        pytest.param(
            [{"op": "replace", "path": "active", "value": False}],
            [{"op": "replace", "path": "active", "value": False}],
            id="deactivation",
        ),
        pytest.param(
            [{"op": "remove", "path": f'members[value eq "{ID}"]'}, {"op": "add", "path": "x", "value": [1]}],
            [{"op": "remove", "path": f'members[value eq "{ID}"]'}, {"op": "add", "path": "x", "value": [M]}],
            id="an id in a path",
        ),
        pytest.param(
            [{"op": "add", "path": f"{ENTERPRISE}:manager", "value": {"value": ID, "displayName": "Eve"}}],
            [{"op": "add", "path": f"{ENTERPRISE}:manager", "value": {"value": ID, "displayName": M}}],
            id="a value that is an object",
        ),
        pytest.param({"unreadable": "QWRh"}, {"unreadable": M}, id="an entry that is no change"),
        pytest.param(["Ada", {"op": "Ada"}], [M, {"op": M}], id="operations of no form"),
        pytest.param(
            [{"op": "Ada", "path": "ada@x.io", "note": "Ada"}],
            [{"op": M, "path": M, "note": M}],
            id="an operation of another form",
        ),
        pytest.param("Ada", M, id="a text"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_of_what_came_in_only_what_says_nothing_of_a_person_stays(body: Any, masked: Any) -> None:
    assert masks.body(body) == masked


@pytest.mark.parametrize(
    ("path", "masked"),
    [
        ("name.givenName", "name.givenName"),
        ('emails[type eq "work"].value', 'emails[type eq "work"].value'),
        ('emails[type eq "work" and value co "ada"]', f'emails[type eq "work" and value co "{M}"]'),
        (r'emails[value eq "a\"b@x.io"]', f'emails[value eq "{M}"]'),
        ("roles[level eq 7]", f"roles[level eq {M}]"),
        ("emails[primary eq true]", "emails[primary eq true]"),
        ('emails[value eq "open', f'emails[value eq "{M}"'),
    ],
)
def test_a_path_keeps_its_names(path: str, masked: str) -> None:
    assert masks.path(path) == masked


@pytest.mark.parametrize(
    ("detail", "masked"),
    [
        (f"There is no User with the id {ID}.", f"There is no User with the id {ID}."),
        (
            "members.value: there is no resource with the id Ada Lovelace.",
            f"members.value: there is no resource with the id {M}.",
        ),
        (
            'The User is at version W/"3", which If-Match does not name.',
            'The User is at version W/"3", which If-Match does not name.',
        ),
        ('emails[value eq "ada@x.io"] matches nothing.', f'emails[value eq "{M}"] matches nothing.'),
        ("'Ada' is odd, and so is eve@x.io.", f"'{M}' is odd, and so is {M}."),
        (
            "The value of userName is taken by another User.",
            "The value of userName is taken by another User.",
        ),
    ],
)
def test_an_error_keeps_its_words(detail: str, masked: str) -> None:
    assert masks.detail(detail) == masked


def test_a_traceback_keeps_its_frames_and_loses_its_messages() -> None:
    text = """Traceback (most recent call last):
  File "units.py", line 7, in apply
    raise KeyError(name)
KeyError: 'ada@x.io'

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "batches.py", line 9, in _write
    connection.execute(APPLY)
psycopg.errors.UniqueViolation: duplicate key
DETAIL:  Key (folded)=(ada@x.io) already exists.
  File "ada@x.io", line 1, in ada
AssertionError"""
    shown = masks.traceback(text)
    assert "ada" not in shown
    assert "KeyError: •••" in shown
    assert 'File "batches.py", line 9, in _write' in shown
    assert "psycopg.errors.UniqueViolation: •••" in shown


LEAVES = st.text("ADALOVELACE", min_size=4) | st.integers(10_000)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["value", "name", "id", "x"]), inner),
)


@given(st.dictionaries(st.sampled_from(["userName", "value", "id", "emails", "meta"]), VALUES))
def test_no_value_of_a_document_survives(body: dict[str, Any]) -> None:
    shown = orjson.dumps(masks.body(body)).decode()
    assert not any(character.isdigit() or character in "ADLOVEC" for character in shown)
