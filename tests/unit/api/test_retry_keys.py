"""A retry has the name of its first try, and nobody who reads the queue can guess what a request held."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from usher_api import retries
from usher_core import ids

FIRST: dict[str, Any] = {
    "secret": b"of the tenant",
    "tenant": ids.TenantId(uuid.UUID(int=1)),
    "token_id": ids.TokenId("t1"),
    "method": "POST",
    "target": b"/iam/scim/v2/Users?",
    "headers": {"if-match": 'W/"1"', "prefer": "return=minimal", "user-agent": "okta"},
    "body": b'{"userName": "ada@x.io", "password": "guess me"}',
}


def named(**other: Any) -> str:
    return retries.key(**FIRST | other)


def test_an_equal_request_has_the_same_name_whoever_carries_it() -> None:
    assert named(headers=FIRST["headers"] | {"user-agent": "another"}) == named()


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"secret": b"of another"}, id="the secret"),
        pytest.param({"tenant": ids.TenantId(uuid.UUID(int=2))}, id="the tenant"),
        pytest.param({"token_id": ids.TokenId("t2")}, id="the token"),
        pytest.param({"method": "DELETE"}, id="the method"),
        pytest.param({"target": b"/iam/scim/v2/Users?attributes=id"}, id="the query"),
        pytest.param({"headers": {"prefer": "return=minimal"}}, id="If-Match"),
        pytest.param({"headers": {"if-match": 'W/"1"'}}, id="Prefer"),
        pytest.param({"body": b"{}"}, id="the body"),
        pytest.param(
            {"target": FIRST["target"] + FIRST["body"][:1], "body": FIRST["body"][1:]},
            id="where one part ends",
        ),
    ],
)
def test_what_differs_in_one_thing_has_another_name(other: dict[str, Any]) -> None:
    assert named(**other) != named()
