"""A bulk is its operations, each with the outcome it would have had alone, in whatever order they refer."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import httpx
import psycopg
import pytest
from psycopg.types.json import Jsonb

from usher_api import bulks, writes
from usher_core import settings
from usher_core.store import databases
from usher_core.tenants import authentications
from usher_core.testing import servers, stacks

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP = "urn:ietf:params:scim:schemas:core:2.0:Group"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
NOBODY = str(uuid.UUID(int=7))

Operation = dict[str, Any]


def post(path: str, bulk_id: str, **data: Any) -> Operation:
    return {"method": "POST", "path": path, "bulkId": bulk_id, "data": data}


def user(bulk_id: str, name: str | None = None, **data: Any) -> Operation:
    return post("/Users", bulk_id, schemas=[USER], userName=name or f"{bulk_id}@x.io", **data)


def group(bulk_id: str, *members: str, **data: Any) -> Operation:
    named = [{"value": f"bulkId:{one}"} for one in members]
    return post("/Groups", bulk_id, schemas=[GROUP], displayName=bulk_id, members=named, **data)


def patch(path: str, *operations: Operation, **more: Any) -> Operation:
    data = {"schemas": [PATCH], "Operations": list(operations)}
    return {"method": "PATCH", "path": path, "data": data} | more


async def send(client: httpx.AsyncClient, *operations: Any, **more: Any) -> list[dict[str, Any]]:
    answer = await client.post("/Bulk", json={"schemas": [BULK], "Operations": list(operations)} | more)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:BulkResponse"]
    told: list[dict[str, Any]] = body["Operations"]
    return told


def statuses(told: list[dict[str, Any]]) -> list[str]:
    return [one["status"] for one in told]


def id_of(told: dict[str, Any]) -> str:
    found: str = told["location"].rpartition("/")[2]
    return found


async def members(client: httpx.AsyncClient, told: dict[str, Any]) -> list[str]:
    shown = (await client.get(told["location"])).json()
    return [one["value"] for one in shown.get("members", [])]


async def test_the_answer_tells_of_each_operation(client: httpx.AsyncClient, acme: stacks.Access) -> None:
    made = (await client.post("/Users", json={"userName": "old@x.io"})).json()
    told = await send(
        client,
        user("qwerty"),
        patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Dr"}),
        {"method": "DELETE", "path": f"/Users/{made['id']}", "bulkId": "mine"},
        {"method": "DELETE", "path": f"/Users/{made['id']}"},
    )
    assert told == [
        {
            "location": f"{acme.base_url}/Users/{id_of(told[0])}",
            "method": "POST",
            "bulkId": "qwerty",
            "version": 'W/"1"',
            "status": "201",
        },
        {"location": made["meta"]["location"], "method": "PATCH", "version": 'W/"2"', "status": "200"},
        {"location": made["meta"]["location"], "method": "DELETE", "bulkId": "mine", "status": "204"},
        {
            "location": made["meta"]["location"],
            "method": "DELETE",
            "status": "404",
            "response": {
                "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
                "status": "404",
                "detail": f"There is no User with the id {made['id']}.",
            },
        },
    ]
    shown = await client.get(told[0]["location"])
    assert shown.json()["userName"] == "qwerty@x.io"


async def test_two_groups_that_have_each_other_as_members_are_both_created(client: httpx.AsyncClient) -> None:
    # The example of RFC 7644 §3.7.1.
    told = await send(client, group("qwerty", "ytrewq"), group("ytrewq", "qwerty"))
    assert statuses(told) == ["201", "201"]
    assert await members(client, told[0]) == [id_of(told[1])]
    assert await members(client, told[1]) == [id_of(told[0])]
    assert [one["version"] for one in told] == ['W/"1"', 'W/"1"']


async def test_a_new_user_joins_the_new_group_that_refers_to_it(client: httpx.AsyncClient) -> None:
    # The example of RFC 7644 §3.7.2.
    told = await send(client, user("qwerty", "Alice@x.io"), group("ytrewq", "qwerty"))
    assert statuses(told) == ["201", "201"]
    assert await members(client, told[1]) == [id_of(told[0])]


async def test_references_stand_in_any_order_and_the_answer_keeps_that_of_the_request(
    client: httpx.AsyncClient,
) -> None:
    told = await send(
        client,
        patch(
            "/Groups/bulkId:team",
            {"op": "remove", "path": 'members[value eq "bulkId:bob"]'},
            {"op": "add", "path": "members", "value": [{"value": "bulkId:eve"}]},
        ),
        group("team", "ada", "bob", "inner"),
        user("ada", **{ENTERPRISE: {"manager": {"value": "bulkId:bob", "$ref": "../Users/bulkId:bob"}}}),
        group("inner", "eve"),
        {"method": "put", "path": "Users/bulkId:eve", "data": {"userName": "eve@x.io", "title": "Dr"}},
        user("bob"),
        user("eve"),
        {"method": "DELETE", "path": "/Users/bulkId%3Abob"},
    )
    assert statuses(told) == ["204", "201", "201", "201", "200", "201", "201", "204"]
    assert [one.get("bulkId") for one in told] == [None, "team", "ada", "inner", None, "bob", "eve", None]
    assert await members(client, told[1]) == sorted([id_of(told[2]), id_of(told[3]), id_of(told[6])])
    ada = (await client.get(told[2]["location"])).json()
    assert ada[ENTERPRISE]["manager"] == {
        "value": id_of(told[5]),
        "$ref": f"../Users/{id_of(told[5])}",
    }
    assert (await client.get(told[6]["location"])).json()["title"] == "Dr"


async def test_a_circle_of_managers_is_created(client: httpx.AsyncClient) -> None:
    told = await send(
        client,
        user("ada", **{ENTERPRISE: {"manager": "bulkId:bob"}}),
        user("bob", **{ENTERPRISE: {"manager": {"value": "bulkId:ada"}}}),
        user("own", **{ENTERPRISE: {"manager": "bulkId:own"}}),
    )
    assert statuses(told) == ["201", "201", "201"]
    shown = [(await client.get(one["location"])).json() for one in told]
    managers = [one[ENTERPRISE]["manager"]["value"] for one in shown]
    assert managers == [id_of(told[one]) for one in (1, 0, 2)]


async def test_of_a_circle_either_all_are_created_or_none(client: httpx.AsyncClient) -> None:
    await client.post("/Users", json={"userName": "taken@x.io"})
    ada = user("ada", **{ENTERPRISE: {"manager": "bulkId:bob"}})
    bob = user("bob", "taken@x.io", **{ENTERPRISE: {"manager": "bulkId:ada"}})
    told = await send(client, ada, bob, group("team", "ada"), group("other"))
    assert statuses(told) == ["409", "409", "409", "201"]
    assert told[1]["response"]["scimType"] == "uniqueness"
    assert "Operations[1]" in told[0]["response"]["detail"]
    assert "Operations[0]" in told[2]["response"]["detail"]
    assert all("location" not in one for one in told[:3])
    assert (await client.get("/Users")).json()["totalResults"] == 1


async def test_what_refers_to_a_failed_create_fails_and_is_not_half_applied(
    client: httpx.AsyncClient,
) -> None:
    made = (await client.post("/Groups", json={"displayName": "Team"})).json()
    told = await send(
        client,
        patch(
            f"/Groups/{made['id']}",
            {"op": "replace", "path": "displayName", "value": "Crew"},
            {"op": "add", "path": "members", "value": [{"value": "bulkId:ada"}]},
        ),
        user("ada", "no address"),
        group("next", "ada"),
        {"method": "DELETE", "path": "/Users/bulkId:ada"},
        user("bob"),
    )
    assert statuses(told) == ["409", "400", "409", "409", "201"]
    assert "location" in told[3]
    shown = (await client.get(f"/Groups/{made['id']}")).json()
    assert (shown["displayName"], shown["meta"]["version"]) == ("Team", 'W/"1"')


async def test_operations_on_one_resource_keep_their_order_whatever_they_refer_to(
    client: httpx.AsyncClient,
) -> None:
    made = (await client.post("/Groups", json={"displayName": "Team"})).json()
    told = await send(
        client,
        patch(f"/Groups/{made['id']}", {"op": "add", "path": "members", "value": [{"value": "bulkId:ada"}]}),
        {"method": "DELETE", "path": f"/Groups/{made['id']}"},
        user("ada"),
    )
    assert statuses(told) == ["204", "204", "201"]


async def test_who_refers_to_a_revived_user_finds_it_under_its_old_id(client: httpx.AsyncClient) -> None:
    old = (await client.post("/Users", json={"userName": "ada@x.io", "externalId": "00u1"})).json()
    team = (await client.post("/Groups", json={"displayName": "Old"})).json()
    op = {"op": "replace", "path": "active", "value": False}
    assert (await client.patch(f"/Users/{old['id']}", json=patch("", op)["data"])).status_code == 200
    told = await send(
        client,
        user("ada", externalId="00u1", **{ENTERPRISE: {"manager": "bulkId:bob"}}),
        user("bob", **{ENTERPRISE: {"manager": "bulkId:ada"}}),
        group("team", "ada"),
        patch("/Users/bulkId:ada", {"op": "replace", "path": "title", "value": "Dr"}),
        patch(f"/Groups/{team['id']}", {"op": "add", "path": "members", "value": [{"value": "bulkId:ada"}]}),
    )
    assert statuses(told) == ["201", "201", "201", "200", "204"]
    assert id_of(told[0]) == id_of(told[3]) == old["id"]
    assert await members(client, told[2]) == await members(client, told[4]) == [old["id"]]
    bob = (await client.get(told[1]["location"])).json()
    assert bob[ENTERPRISE]["manager"]["value"] == old["id"]
    assert (await client.get(told[0]["location"])).json()["title"] == "Dr"


async def four_that_fail(client: httpx.AsyncClient) -> list[Operation]:
    """Make the operations of the example of RFC 7644 §3.7.3, each of which fails."""
    made = (await client.post("/Users", json={"userName": "ada@x.io"})).json()
    place = f"/Users/{made['id']}"
    return [
        {"method": "POST", "path": "/Users", "bulkId": "qwerty", "data": {"schemas": [USER]}},
        {"method": "PUT", "path": place, "version": 'W/"7"', "data": {"userName": "bob@x.io"}},
        patch(place, {"op": "add", "path": "title", "value": "Dr"}, version='W/"7"'),
        {"method": "DELETE", "path": f"/Users/{NOBODY}"},
    ]


@pytest.mark.parametrize(
    ("accepted", "answered"),
    [
        (None, ["400", "412", "412", "404", "201"]),
        (1, ["400"]),
        (3, ["400", "412", "412"]),
        (4, ["400", "412", "412", "404"]),
        (5, ["400", "412", "412", "404", "201"]),
    ],
)
async def test_after_so_many_errors_no_further_operation_is_begun(
    client: httpx.AsyncClient, accepted: int | None, answered: list[str]
) -> None:
    failing = await four_that_fail(client)
    told = await send(client, *failing, user("last"), failOnErrors=accepted)
    assert statuses(told) == answered
    assert all(one["response"]["status"] == one["status"] for one in told if one["status"] != "201")
    assert (await client.get("/Users")).json()["totalResults"] == (2 if "201" in answered else 1)


def words_of(answer: dict[str, Any] | None, *names: str) -> Any:
    return answer and {key: value for key, value in answer.items() if key not in names}


ALONE = [
    pytest.param("POST", "/Users", {"userName": "new@x.io", "title": "Dr"}, None, id="create"),
    pytest.param("POST", "/Users", {"userName": "ADA@x.io"}, None, id="duplicate"),
    pytest.param("POST", "/Users", {"title": "Dr"}, None, id="no name"),
    pytest.param("POST", "/Users", {"userName": "no address"}, None, id="no address"),
    pytest.param("POST", "/Users", {"userName": "b@x.io", "active": "perhaps"}, None, id="wrong type"),
    pytest.param("POST", "/Users", {"schemas": ["urn:scim:schemas:core:1.0"]}, None, id="SCIM 1.x"),
    pytest.param("POST", "/Users", [1], None, id="no object"),
    pytest.param("POST", "/Groups", {"displayName": "G", "members": [{"value": NOBODY}]}, None, id="nobody"),
    pytest.param("POST", "/Groups", {"displayName": "G", "members": [{}]}, None, id="member without id"),
    pytest.param("POST", "/Gadgets", {}, None, id="no such type"),
    pytest.param("POST", "/a/b/c", {}, None, id="no such path"),
    pytest.param("POST", "/Users/{id}", {}, None, id="create below a user"),
    pytest.param("POST", "/Schemas", {}, None, id="discovery"),
    pytest.param("POST", "/Me", {}, None, id="me"),
    pytest.param("PUT", "/Users/{id}", {"userName": "ada@x.io", "title": "Dr"}, None, id="replace"),
    pytest.param("PUT", "/Users/{id}", {"userName": "ada@x.io"}, 'W/"1"', id="replace at its version"),
    pytest.param("PUT", "/Users/{id}", {"userName": "ada@x.io"}, 'W/"9"', id="replace at another"),
    pytest.param("PUT", "/Users/{id}", {"userName": "ada@x.io"}, "nonsense", id="no version at all"),
    pytest.param("PUT", "/Users/{id}", {"userName": "bob@x.io"}, None, id="name of another"),
    pytest.param("PUT", "/Users/{id}", {"userName": "no address"}, None, id="replace by no address"),
    pytest.param("PUT", "/Users/{id}", {}, None, id="replace by nothing"),
    pytest.param("PUT", f"/Users/{NOBODY}", {"userName": "x@x.io"}, None, id="replace nobody"),
    pytest.param("PUT", "/Users/no-id", {"userName": "x@x.io"}, None, id="replace no id"),
    pytest.param("PUT", "/Users", {"userName": "x@x.io"}, None, id="replace all"),
    pytest.param("PUT", "/Groups/{id}", {"displayName": "x"}, None, id="a user is no group"),
    pytest.param("PATCH", "/Users/{id}", [("replace", "title", "Dr")], None, id="patch"),
    pytest.param("PATCH", "/Users/{id}", [("replace", "title", "Dr")], 'W/"9"', id="patch at another"),
    pytest.param("PATCH", "/Users/{id}", [("add", "titel", "Dr")], None, id="unknown path"),
    pytest.param("PATCH", "/Users/{id}", [("add", "id", "x")], None, id="read-only"),
    pytest.param("PATCH", "/Users/{id}", [("remove", "userName", "x")], None, id="required"),
    pytest.param("PATCH", "/Users/{id}", [("remove", None, "x")], None, id="no target"),
    pytest.param("PATCH", "/Users/{id}", [("add", 'emails[value qq "a"]', "x")], None, id="wrong filter"),
    pytest.param("PATCH", "/Users/{id}", [("move", "title", "Dr")], None, id="wrong op"),
    pytest.param("PATCH", "/Users/{id}", {}, None, id="no PatchOp"),
    pytest.param("PATCH", f"/Users/{NOBODY}", [("replace", "title", "Dr")], None, id="patch nobody"),
    pytest.param("PATCH", "/Groups/{group}", [("replace", "displayName", "T")], None, id="patch a group"),
    pytest.param("DELETE", "/Users/{id}", None, None, id="delete"),
    pytest.param("DELETE", "/Groups/{group}", None, 'W/"1"', id="delete a group"),
    pytest.param("DELETE", "/Users/{id}", None, 'W/"9"', id="delete at another"),
    pytest.param("DELETE", f"/Users/{NOBODY}", None, None, id="delete nobody"),
    pytest.param("DELETE", "/Users", None, None, id="delete all"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "data", "version"), ALONE)
async def test_an_operation_ends_as_if_it_was_sent_alone(
    stack: stacks.Stack, method: str, path: str, data: Any, version: str | None
) -> None:
    ends = []
    for in_bulk in (False, True):
        access = await stack.make_tenant()
        async with httpx.AsyncClient(base_url=access.base_url, headers=access.headers, timeout=40) as client:
            ada = (await client.post("/Users", json={"userName": "ada@x.io"})).json()
            await client.post("/Users", json={"userName": "bob@x.io"})
            group_ = (await client.post("/Groups", json={"displayName": "Team"})).json()
            place = path.format(id=ada["id"], group=group_["id"])
            body = data
            if isinstance(data, list) and data[0] != 1:
                body = patch("", *(dict(zip(("op", "path", "value"), one, strict=True)) for one in data))[
                    "data"
                ]
            if in_bulk:
                [told] = await send(
                    client,
                    {"method": method, "path": place, "data": body, "bulkId": "x", "version": version},
                )
                end = (told["status"], told.get("version"), told.get("location"), told.get("response"))
            else:
                headers = {} if version is None else {"If-Match": version}
                sent = {} if body is None else {"json": body}
                answer = await client.request(method, place, headers=headers, **sent)
                error = answer.json() if answer.status_code >= 400 else None
                location = answer.headers.get("location") or (
                    None if method == "POST" else f"{access.base_url}{place}"
                )
                end = (str(answer.status_code), answer.headers.get("etag"), location, error)
            about = (ada["id"], group_["id"])
            ends.append([_without_ids(one, about) for one in end])
            names = await client.get("/Users?attributes=userName,title&sortBy=userName")
            ends[-1].append([words_of(one, "id", "meta") for one in names.json()["Resources"]])
    assert ends[0] == ends[1]


def _without_ids(value: Any, about: tuple[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _without_ids(item, about) for key, item in value.items()}
    if not isinstance(value, str):
        return value
    head, _, tail = value.rpartition("/")
    if len(tail) == 36 and tail != NOBODY:
        return f"{head}/…"  # the id of what was made
    for one in about:
        value = value.replace(one, "…")
    return value


def nested(levels: int) -> Any:
    return [] if levels == 0 else [nested(levels - 1)]


WRONG = [
    pytest.param({"method": "GET", "path": f"/Users/{NOBODY}"}, "method", id="GET"),
    pytest.param({"path": "/Users", "bulkId": "x", "data": {}}, "method", id="no method"),
    pytest.param({"method": 7, "path": "/Users"}, "method", id="a method that is no text"),
    pytest.param({"method": "DELETE"}, "path", id="no path"),
    pytest.param({"method": "DELETE", "path": ["/Users"]}, "path", id="a path that is no text"),
    pytest.param({"method": "POST", "path": "/Users", "data": {}}, "bulkId", id="no bulkId"),
    pytest.param({"method": "POST", "path": "/Users", "bulkId": ""}, "bulkId", id="empty bulkId"),
    pytest.param({"method": "POST", "path": "/Users", "bulkId": {}}, "bulkId", id="bulkId that is no text"),
    pytest.param(post("/Bulk", "x"), "one resource", id="a bulk in a bulk"),
    pytest.param(post("/Users/.search", "x"), "one resource", id="a search"),
    pytest.param(post("http://x/iam/scim/v2/Users", "x"), "relative", id="an absolute URL"),
    pytest.param(post("/iam/scim/v2/Users", "x"), "relative", id="a path with its base"),
    pytest.param(post("/Groups", "x", displayName="bulkId:nil"), "nil", id="unknown bulkId"),
    pytest.param({"method": "DELETE", "path": "/Users/bulkId:nil"}, "nil", id="unknown in a path"),
    pytest.param(
        patch(f"/Groups/{NOBODY}", {"op": "remove", "path": 'members[value eq "bulkId:nil"]'}),
        "nil",
        id="unknown in the path of a PATCH",
    ),
    pytest.param({"method": "DELETE", "path": f"/Users/{NOBODY}", "version": 1}, "version", id="version"),
    pytest.param(post("/Users", "x", userName=nested(33)), "nested", id="nested too deep"),
    pytest.param(post("/Users", "x", userName=nested(200)), "nested", id="nested far too deep"),
]


@pytest.mark.parametrize(("operation", "word"), WRONG)
async def test_a_wrong_operation_is_its_own_error_and_the_others_go_on(
    client: httpx.AsyncClient, operation: Operation, word: str
) -> None:
    told = await send(client, user("first"), operation, user("last"))
    assert statuses(told) == ["201", "400", "201"]
    assert word in told[1]["response"]["detail"]


@pytest.mark.parametrize(
    ("body", "status", "scim_type"),
    [
        pytest.param("[]", 400, "invalidSyntax", id="no object"),
        pytest.param("{", 400, "invalidSyntax", id="no JSON"),
        pytest.param({}, 400, "invalidSyntax", id="no operations"),
        pytest.param({"Operations": []}, 400, "invalidSyntax", id="an empty list"),
        pytest.param({"Operations": ["x"]}, 400, "invalidSyntax", id="no operation in it"),
        pytest.param({"schemas": [PATCH], "Operations": [user("a")]}, 400, "invalidSyntax", id="a PATCH"),
        pytest.param({"Operations": [user("a")], "failOnErrors": 0}, 400, "invalidValue", id="no error"),
        pytest.param({"Operations": [user("a")], "failOnErrors": True}, 400, "invalidValue", id="true"),
        pytest.param({"Operations": [user("a")], "failOnErrors": "1"}, 400, "invalidValue", id="a text"),
        pytest.param({"Operations": [user("a"), user("a", "b@x")]}, 400, "invalidValue", id="bulkId twice"),
        pytest.param({"Operations": [user(f"{n}") for n in range(1001)]}, 413, None, id="too many"),
        pytest.param({"Operations": [user("a", title="x" * 1_100_000)]}, 413, None, id="too large"),
    ],
)
async def test_a_wrong_message_is_refused_whole(
    client: httpx.AsyncClient, body: Any, status: int, scim_type: str | None
) -> None:
    sent: dict[str, Any] = {"content": body} if isinstance(body, str) else {"json": body}
    answer = await client.post("/Bulk", **sent)
    assert (answer.status_code, answer.json().get("scimType")) == (status, scim_type)
    assert status != 413 or "(1000)" in answer.json()["detail"] or "(1048576)" in answer.json()["detail"]
    assert (await client.get("/Users")).json()["totalResults"] == 0


async def test_names_in_any_case_and_no_schemas_are_understood(client: httpx.AsyncClient) -> None:
    operation = {"Method": "post", "BULKID": "x", "Path": "/Users", "Data": {"userName": "ada@x.io"}}
    answer = await client.post("/Bulk", json={"operations": [operation], "FailOnErrors": 1})
    [told] = answer.json()["Operations"]
    assert (told["status"], told["method"], told["bulkId"]) == ("201", "POST", "x")


async def test_bulk_is_posted_by_who_may_write(stack: stacks.Stack, client: httpx.AsyncClient) -> None:
    reader = await stack.make_tenant(role="reader")
    answer = await client.post("/Bulk", json={"Operations": [user("a")]}, headers=reader.headers)
    assert answer.status_code == 403
    assert (await client.get("/Bulk")).status_code == 405
    told = (await client.get("/ServiceProviderConfig")).json()["bulk"]
    assert told == {"supported": True, "maxOperations": 1000, "maxPayloadSize": 1_048_576}


async def test_what_a_tenant_forbids_is_forbidden_in_a_bulk_too(
    client: httpx.AsyncClient, stack: stacks.Stack, acme: stacks.Access
) -> None:
    made = (await client.post("/Users", json={"userName": "ada@x.io"})).json()
    config = {"actions": ["UpdateUsers", "PushGroups"], "ignore_unknown_attributes": False}
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(acme.tenant),))
        app.execute("UPDATE tenants SET config = %s", (Jsonb(config),))
    await asyncio.sleep(1.05)
    told = await send(
        client,
        user("bob"),
        patch(f"/Users/{made['id']}", {"op": "replace", "path": "active", "value": False}),
        patch(f"/Users/{made['id']}", {"op": "replace", "path": "title", "value": "Dr"}),
        group("team", colour="red"),
        {"method": "DELETE", "path": f"/Users/{made['id']}"},
    )
    assert statuses(told) == ["403", "403", "200", "400", "403"]
    assert "colour" in told[3]["response"]["detail"]


async def test_a_thousand_operations_are_one_request_and_a_row_each(
    client: httpx.AsyncClient, stack: stacks.Stack, acme: stacks.Access
) -> None:
    crowd = [user(f"u{n}", password="canary-passw0rd") for n in range(990)]
    teams = [group(f"g{n}", *(f"u{m}" for m in range(n * 99, n * 99 + 99))) for n in range(10)]
    told = await send(client, *teams, *crowd)
    assert statuses(told) == ["201"] * 1000
    assert await members(client, told[3]) == sorted(id_of(one) for one in told[10 + 297 : 10 + 396])
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(acme.tenant),))
        rows = app.execute(
            "SELECT bulk_id, count(*), count(DISTINCT bulk_index), max(bulk_index), bool_or(body::text"
            " LIKE '%canary%') FROM change_log GROUP BY bulk_id ORDER BY 2"
        ).fetchall()
        own = app.execute("SELECT change_id, body FROM change_log WHERE operation = 'bulk'").fetchall()
    assert own == [(rows[1][0], {"operations": 1000, "failOnErrors": None})]
    assert rows == [(None, 1, 0, None, False), (own[0][0], 1000, 1000, 999, False)]


async def test_bulks_and_single_changes_keep_the_order_of_the_tenant(client: httpx.AsyncClient) -> None:
    made = (await client.post("/Users", json={"userName": "ada@x.io"})).json()
    place = f"/Users/{made['id']}"
    seen: list[tuple[int, str]] = []

    async def alone(name: str) -> None:
        op = {"op": "replace", "path": "title", "value": name}
        answer = await client.patch(place, json=patch("", op)["data"])
        seen.append((int(answer.headers["etag"][3:-1]), name))
        assert answer.json()["title"] == name

    async def in_bulk(name: str) -> None:
        ops = [{"op": "replace", "path": "title", "value": f"{name}{n}"} for n in range(60)]
        told = await send(client, *(patch(place, op) for op in ops))
        versions = [int(one["version"][3:-1]) for one in told]
        # Nobody comes in between, for a bulk is one entry of the stream.
        assert versions == list(range(versions[0], versions[0] + 60))
        seen.append((versions[-1], f"{name}59"))

    await asyncio.gather(*(one for n in range(8) for one in (alone(f"a{n}"), in_bulk(f"b{n}"))))
    last = (await client.get(place)).json()
    assert last["meta"]["version"] == f'W/"{1 + 8 + 8 * 60}"'
    assert last["title"] == max(seen)[1]


async def test_a_bulk_whose_reply_is_lost_is_told_by_the_log(
    stack: stacks.Stack, acme: stacks.Access, running: servers.Servers
) -> None:
    redis_url = running.redis_url.rpartition("/")[0] + "/15"
    config = settings.Settings(
        database_url=stack.database_url, redis_url=redis_url, apply_wait=2.0, drain_linger=0.0
    )
    async with databases.Database(stack.database_url) as database:
        authenticator = authentications.Authenticator(database)
        principal = await authenticator.authenticate(f"Bearer {acme.token}", None)
        await authenticator.close()
        desk = bulks.Bulks(principal.registry, principal.config, acme.base_url)
        sent = [user("ada"), user("bob", "ADA@x.io"), {"method": "GET"}, group("team", "ada"), user("eve")]
        body = {"Operations": sent, "failOnErrors": 2}
        prepared = await desk.read(body, token_id="t", request_id="r", max_operations=9)
        deaf = writes.Writes(config, database)  # it was not started, so it hears no reply
        outcomes = await deaf.submit_bulk(principal, prepared.change, prepared.bulk, writes.Asking())
        await deaf.close()
    told = desk.answer(prepared, outcomes)["Operations"]
    assert statuses(told) == ["201", "409", "400"]
    assert told[0]["version"] == 'W/"1"'
