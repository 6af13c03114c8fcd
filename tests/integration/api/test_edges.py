"""Where the protocol leaves a choice, or clients send too much, the answer and what is found agree."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from usher_core.scim import messages

ADA: dict[str, Any] = {"userName": "ada@x.io", "externalId": "00u1"}
ACTIVE, INACTIVE = "active eq true", "active eq false"


def patch_op(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [messages.PATCH_OP_SCHEMA], "Operations": list(operations)}


async def create(client: httpx.AsyncClient, endpoint: str = "/Users", **body: Any) -> dict[str, Any]:
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def insist_on_active(client: httpx.AsyncClient, answer: httpx.Response, active: bool) -> None:
    """Insist that the answer, the user read again and the filters say the same."""
    assert answer.status_code in (200, 201), answer.text
    user = answer.json()
    assert user["active"] is active
    assert (await client.get(f"/Users/{user['id']}")).json()["active"] is active
    for condition, holds in ((ACTIVE, active), (INACTIVE, not active), ("active pr", True)):
        found = (await client.get("/Users", params={"filter": condition})).json()
        assert found["totalResults"] == holds, condition
        assert [one["active"] for one in found["Resources"]] == [active] * holds


# Whether a user is active.


@pytest.mark.parametrize(
    ("sent", "active"),
    [
        pytest.param({}, True, id="silence"),
        pytest.param({"active": True}, True, id="true"),
        pytest.param({"active": "False"}, False, id="false"),
        pytest.param({"active": None}, False, id="null"),
    ],
)
async def test_a_new_user_is_active_unless_it_is_said_otherwise(
    client: httpx.AsyncClient, sent: dict[str, Any], active: bool
) -> None:
    await insist_on_active(client, await client.post("/Users", json=ADA | sent), active)


@pytest.mark.parametrize(
    ("before", "sent", "active"),
    [
        pytest.param(False, {}, False, id="silence lets nobody in again"),
        pytest.param(True, {}, True, id="silence shuts nobody out"),
        pytest.param(True, {"active": None}, False, id="null takes the access away"),
        pytest.param(False, {"active": None}, False, id="null gives none"),
        pytest.param(False, {"active": True}, True, id="true"),
        pytest.param(True, {"active": False}, False, id="false"),
    ],
)
async def test_a_put_changes_whether_a_user_is_active_only_if_it_says_so(
    client: httpx.AsyncClient, before: bool, sent: dict[str, Any], active: bool
) -> None:
    made = await create(client, **ADA, active=before)
    body = ADA | sent | {"title": "Countess"}
    await insist_on_active(client, await client.put(f"/Users/{made['id']}", json=body), active)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param({"op": "replace", "path": "active", "value": None}, id="null"),
        pytest.param({"op": "replace", "value": {"active": None}}, id="null without a path"),
    ],
)
async def test_a_patch_by_null_takes_the_access_away(
    client: httpx.AsyncClient, operation: dict[str, Any]
) -> None:
    made = await create(client, **ADA)
    answer = await client.patch(f"/Users/{made['id']}", json=patch_op(operation))
    await insist_on_active(client, answer, False)


async def test_who_has_no_active_is_not_found_as_active_and_stays_so(client: httpx.AsyncClient) -> None:
    path = f"/Users/{(await create(client, **ADA))['id']}"
    answers = [
        await client.patch(path, json=patch_op({"op": "remove", "path": "active"})),
        await client.put(path, json=ADA | {"title": "Countess"}),
        await client.get(path),
    ]
    assert [(one.status_code, "active" in one.json()) for one in answers] == [(200, False)] * 3
    for condition, total in ((ACTIVE, 0), (INACTIVE, 0), ("active pr", 0), (f"not ({ACTIVE})", 1)):
        found = await client.get("/Users", params={"filter": condition})
        assert found.json()["totalResults"] == total, condition
    await insist_on_active(client, await client.put(path, json=ADA | {"active": True}), True)


async def test_who_is_created_again_is_active_again(client: httpx.AsyncClient) -> None:
    made = await create(client, **ADA, active=False)
    answer = await client.post("/Users", json=ADA)
    assert answer.json()["id"] == made["id"]
    await insist_on_active(client, answer, True)


# What is sent twice.


async def test_a_value_that_is_sent_twice_is_answered_once(client: httpx.AsyncClient) -> None:
    work = {"value": "ada@x.io", "type": "work"}
    home = {"value": "ada@x.io", "type": "home"}
    made = await create(client, **ADA, emails=[work | {"primary": True}, work, home])
    wanted = [work | {"primary": True}, home]
    assert made["emails"] == wanted
    again = await client.put(f"/Users/{made['id']}", json=ADA | {"emails": [*wanted, *wanted]})
    assert again.json()["emails"] == wanted
    assert again.headers["etag"] == 'W/"1"'
    found = await client.get("/Users", params={"filter": 'emails.value eq "ADA@x.io"'})
    assert found.json()["totalResults"] == 1


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_two_primary_values_are_a_400_that_names_them(client: httpx.AsyncClient, method: str) -> None:
    path = "/Users" if method == "POST" else f"/Users/{(await create(client, **ADA))['id']}"
    two = [{"value": f"{name}@x.io", "primary": True} for name in "ab"]
    answer = await client.request(method, path, json={"userName": "b@x.io", "emails": two})
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue")
    assert "emails.primary" in answer.json()["detail"]


# Versions.


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        pytest.param('W/"1"', 304, id="the version"),
        pytest.param('"1"', 304, id="the version, strong"),
        pytest.param("*", 304, id="any"),
        pytest.param('"x", W/"7", W/"1"', 304, id="in a list"),
        pytest.param('W/"2"', 200, id="another version"),
        pytest.param('W/"11", "21"', 200, id="a version that only looks like it"),
        pytest.param("1", 200, id="no tag"),
        pytest.param("", 200, id="empty"),
    ],
)
async def test_a_version_that_the_client_has_is_not_sent_again(
    client: httpx.AsyncClient, tags: str, status: int
) -> None:
    group = await create(client, "/Groups", displayName="Team")
    ada = await create(client, **ADA)
    without_groups = (
        f"/Users/{ada['id']}?excludedAttributes=groups",
        f"/Users/{ada['id']}?attributes=userName",
    )
    for path in (f"/Groups/{group['id']}", *without_groups):
        answer = await client.get(path, headers={"If-None-Match": tags})
        assert answer.status_code == status, path
        assert answer.headers["etag"] == 'W/"1"'
        assert (answer.content == b"") is (status == 304)
    # Groups are computed and no part of the version: an answer with them is always sent.
    for path in (f"/Users/{ada['id']}", f"/Users/{ada['id']}?attributes=groups"):
        assert (await client.get(path, headers={"If-None-Match": tags})).status_code == 200


@pytest.mark.parametrize(
    ("tags", "status"),
    [
        pytest.param('W/"1"', 200, id="the version"),
        pytest.param('"1"', 200, id="the version, strong"),
        pytest.param("*", 200, id="any"),
        pytest.param('"x", W/"7", W/"1"', 200, id="in a list"),
        pytest.param('W/"2"', 412, id="another version"),
        pytest.param("1", 412, id="no tag"),
        pytest.param("", 412, id="empty"),
    ],
)
async def test_only_a_version_that_the_client_names_is_changed(
    client: httpx.AsyncClient, tags: str, status: int
) -> None:
    path = f"/Users/{(await create(client, **ADA))['id']}"
    title = patch_op({"op": "add", "path": "title", "value": "Countess"})
    answer = await client.patch(path, json=title, headers={"If-Match": tags})
    assert answer.status_code == status
    shown = await client.get(path)
    assert shown.headers["etag"] == ('W/"2"' if status == 200 else 'W/"1"')
    assert ("title" in shown.json()) is (status == 200)
