"""A diff names each attribute that changed, once, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from usher_core.operations import diffs

URN = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
WORK = {"value": "ada@x.io", "type": "work"}
HOME = {"value": "ada@home.io", "type": "home"}


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        pytest.param({"a": 1}, {"a": 1}, [], id="equal"),
        pytest.param(None, {"userName": "ada"}, [("+", "userName", None, "ada")], id="created"),
        pytest.param({"userName": "ada"}, None, [("-", "userName", "ada", None)], id="deleted"),
        pytest.param({"a": True}, {"a": 1}, [("~", "a", True, 1)], id="a flag is no number"),
        pytest.param(
            {"name": {"givenName": "Ada", "familyName": "Byron"}},
            {"name": {"givenName": "Ada", "familyName": "Lovelace"}},
            [("~", "name.familyName", "Byron", "Lovelace")],
            id="a sub-attribute",
        ),
        pytest.param(
            {},
            {URN: {"department": "D", "manager": {"value": "1"}}},
            [("+", f"{URN}:department", None, "D"), ("+", f"{URN}:manager.value", None, "1")],
            id="an extension",
        ),
        pytest.param(
            {"emails": [WORK, HOME]}, {"emails": [HOME]}, [("-", "emails", WORK, None)], id="an element goes"
        ),
        pytest.param({}, {"emails": [WORK]}, [("+", "emails", None, WORK)], id="the first element comes"),
        pytest.param(
            {"emails": [WORK, HOME]},
            {"emails": [HOME, {**WORK, "value": "countess@x.io"}]},
            [("~", 'emails[type eq "work"].value', "ada@x.io", "countess@x.io")],
            id="an element is known again by its type",
        ),
        pytest.param(
            {"emails": [WORK]},
            {"emails": [{**WORK, "primary": True}]},
            [("+", 'emails[type eq "work"].primary', None, True)],
            id="an element is known again by its value",
        ),
        pytest.param(
            {"emails": [WORK, HOME]},
            {"emails": [HOME, WORK]},
            [("~", "emails", [WORK, HOME], [HOME, WORK])],
            id="another order",
        ),
        pytest.param(
            {"roles": [{"value": "a", "type": "x"}, {"value": "b", "type": "x"}]},
            {"roles": [{"value": "c", "type": "x"}]},
            [
                ("-", "roles", {"value": "a", "type": "x"}, None),
                ("-", "roles", {"value": "b", "type": "x"}, None),
                ("+", "roles", None, {"value": "c", "type": "x"}),
            ],
            id="elements of one type are not mistaken for each other",
        ),
    ],
)
def test_a_diff_tells_what_changed(before: Any, after: Any, lines: list[tuple[Any, ...]]) -> None:
    found = diffs.compare(before, after)
    assert [(one.sign, one.path, one.before, one.after) for one in found] == lines
