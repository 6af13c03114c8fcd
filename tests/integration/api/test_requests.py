"""Every answer of the api is SCIM, whatever the request; and every write tells its true outcome."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import uuid
from typing import Any

import httpx
import pytest

from usher_core.scim import messages
from usher_core.testing import stacks

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ADA = {
    "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
    "userName": "ada@x.io",
    "externalId": "00u1",
    "name": {"givenName": "Ada"},
    "emails": [{"value": "ada@x.io", "type": "work", "primary": True}],
    "active": True,
    "password": "canary-passw0rd",
}


def patch_op(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


def is_scim_error(answer: httpx.Response, status: int, scim_type: str | None = None) -> bool:
    body = answer.json()
    return (
        answer.status_code == status
        and body["status"] == str(status)
        and body["schemas"] == ["urn:ietf:params:scim:api:messages:2.0:Error"]
        and body.get("scimType") == scim_type
        and bool(body["detail"])
        and answer.headers["content-type"].startswith("application/scim+json")
    )


async def create(client: httpx.AsyncClient, endpoint: str = "/Users", **body: Any) -> dict[str, Any]:
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_a_create_answers_the_whole_resource_with_its_location_and_version(
    client: httpx.AsyncClient, acme: stacks.Access
) -> None:
    answer = await client.post("/Users", json=ADA)
    assert answer.status_code == 201
    made = answer.json()
    assert made["userName"] == "ada@x.io"
    assert "password" not in made
    assert answer.headers["location"] == made["meta"]["location"] == f"{acme.base_url}/Users/{made['id']}"
    assert answer.headers["etag"] == made["meta"]["version"] == 'W/"1"'
    read = await client.get(f"/Users/{made['id']}")
    assert read.json() == made
    assert read.headers["etag"] == 'W/"1"'


async def test_a_duplicate_is_a_409_and_changes_nothing(client: httpx.AsyncClient) -> None:
    await create(client, **ADA)
    assert is_scim_error(await client.post("/Users", json=ADA | {"userName": "ADA@X.IO"}), 409, "uniqueness")
    assert (await client.get("/Users")).json()["totalResults"] == 1


async def test_two_equal_creates_at_once_are_one_201_and_one_409(client: httpx.AsyncClient) -> None:
    answers = await asyncio.gather(*(client.post("/Users", json=ADA) for _ in range(2)))
    assert sorted(one.status_code for one in answers) == [201, 409]


async def test_a_put_replaces_and_a_read_back_resource_may_be_put(client: httpx.AsyncClient) -> None:
    made = await create(client, **ADA)
    group = await create(client, "/Groups", displayName="Team", members=[{"value": made["id"]}])
    read = (await client.get(f"/Users/{made['id']}")).json()
    assert [one["value"] for one in read["groups"]] == [group["id"]]
    answer = await client.put(f"/Users/{made['id']}", json=read | {"title": "Countess"})
    assert answer.status_code == 200
    assert answer.json()["title"] == "Countess"
    assert answer.json()["groups"] == read["groups"]
    same = await client.put(f"/Users/{made['id']}", json=answer.json())
    assert same.headers["etag"] == answer.headers["etag"] == 'W/"2"'


async def test_a_user_is_deactivated_by_a_string_in_capitals(client: httpx.AsyncClient) -> None:
    made = await create(client, **ADA)
    op = {"op": "Replace", "path": "active", "value": "False"}
    answer = await client.patch(f"/Users/{made['id']}", json=patch_op(op))
    assert (answer.status_code, answer.json()["active"]) == (200, False)


async def test_a_group_patch_answers_204_unless_attributes_were_asked_for(client: httpx.AsyncClient) -> None:
    ada = await create(client, **ADA)
    group = await create(client, "/Groups", displayName="Team")
    add = patch_op({"op": "Add", "path": "members", "value": [{"$ref": None, "value": ada["id"]}]})
    answer = await client.patch(f"/Groups/{group['id']}", json=add)
    assert (answer.status_code, answer.content) == (204, b"")
    asked = await client.patch(f"/Groups/{group['id']}?attributes=members", json=add)
    assert asked.status_code == 200
    assert [one["value"] for one in asked.json()["members"]] == [ada["id"]]
    assert "displayName" not in asked.json()
    without = (await client.get(f"/Groups/{group['id']}?excludedAttributes=members")).json()
    assert "members" not in without


async def test_an_unknown_member_is_named_and_nothing_is_applied(client: httpx.AsyncClient) -> None:
    group = await create(client, "/Groups", displayName="Team")
    nobody = str(uuid.uuid4())
    add = patch_op({"op": "add", "path": "members", "value": [{"value": nobody}]})
    answer = await client.patch(f"/Groups/{group['id']}", json=add)
    assert is_scim_error(answer, 400, "invalidValue")
    assert nobody in answer.json()["detail"]
    assert (await client.get(f"/Groups/{group['id']}")).headers["etag"] == 'W/"1"'


async def test_a_deleted_user_is_gone_and_its_name_is_free(client: httpx.AsyncClient) -> None:
    made = await create(client, **ADA)
    assert (await client.delete(f"/Users/{made['id']}")).status_code == 204
    assert is_scim_error(await client.get(f"/Users/{made['id']}"), 404)
    assert is_scim_error(await client.delete(f"/Users/{made['id']}"), 404)
    again = await create(client, **ADA)
    assert again["id"] != made["id"]


async def test_versions_guard_writes_and_spare_reads(client: httpx.AsyncClient) -> None:
    group = await create(client, "/Groups", displayName="Team")
    path = f"/Groups/{group['id']}"
    rename = {"displayName": "Crew"}
    stale = await client.put(path, json=rename, headers={"If-Match": 'W/"7"'})
    assert is_scim_error(stale, 412)
    fresh = await client.put(path, json=rename, headers={"If-Match": 'W/"7", W/"1"'})
    assert (fresh.status_code, fresh.headers["etag"]) == (200, 'W/"2"')
    unchanged = await client.get(path, headers={"If-None-Match": 'W/"2"'})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    ada = await create(client, **ADA)
    # The computed groups are no part of the version, so a user is always shown.
    shown = await client.get(f"/Users/{ada['id']}", headers={"If-None-Match": 'W/"1"'})
    assert shown.status_code == 200


@pytest.mark.parametrize(
    ("query", "names"),
    [
        pytest.param("filter=userName eq \"ADA@x.io\"", ["ada@x.io"], id="name in any case"),
        pytest.param("filter=userName+eq+%22ada@x.io%22&", ["ada@x.io"], id="plus as space, a stray &"),
        pytest.param("filter=userName eq ada@x.io", ["ada@x.io"], id="unquoted"),
        pytest.param('filter=externalId eq "00u1"&aadOptscim062020', ["ada@x.io"], id="stray parameter"),
        pytest.param('filter=externalId eq "00U1"', [], id="externalId is case-exact"),
        pytest.param('filter=emails.value eq "ADA@X.IO"', ["ada@x.io"], id="email"),
        pytest.param('filter=displayName eq "GRACE"', ["grace@x.io"], id="display name"),
        pytest.param('filter=USERNAME EQ "ada@x.io" AND externalId eq "00u1"', ["ada@x.io"], id="and"),
        pytest.param('filter=userName eq "ada@x.io" and externalId eq "other"', [], id="and that fails"),
        pytest.param('filter=id eq "no-id-of-ours"', [], id="an id that can't be"),
        pytest.param("startIndex=2&count=1", ["grace@x.io"], id="second page"),
        pytest.param("startIndex=0&count=1", ["ada@x.io"], id="startIndex below 1 means 1"),
        pytest.param("count=0", [], id="only the total"),
        pytest.param("startIndex=9", [], id="past the end"),
    ],
)  # fmt: skip
async def test_lists_find_what_the_filter_means(
    client: httpx.AsyncClient, query: str, names: list[str]
) -> None:
    await create(client, **ADA)
    await create(client, userName="grace@x.io", displayName="Grace", active=False)
    answer = await client.get(f"/Users?{query}")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert [one["userName"] for one in body["Resources"]] == names
    assert body["itemsPerPage"] == len(names)
    assert body["totalResults"] == (len(names) if "filter" in query else 2)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "scim_type"),
    [
        pytest.param("GET", '/Users?filter=userNam eq "a"', None, 400, "invalidFilter", id="mistyped"),
        pytest.param("GET", "/Users?filter=", None, 400, "invalidFilter", id="empty filter"),
        pytest.param("GET", "/Users?count=many", None, 400, "invalidCount", id="count"),
        pytest.param("POST", "/Users", "{", 400, "invalidSyntax", id="no JSON"),
        pytest.param("POST", "/Users", "[]", 400, "invalidSyntax", id="no object"),
        pytest.param("POST", "/Users", "{}", 400, "invalidValue", id="no userName"),
        pytest.param("POST", "/Users", '{"userName":"a\\u0000b"}', 400, "invalidValue", id="NUL"),
        pytest.param("POST", "/Users", '{"userName":"\\ud800"}', 400, "invalidSyntax", id="lone surrogate"),
        pytest.param("POST", "/Users", '{"userName":"a@x","active":"no"}', 400, "invalidValue", id="boolean"),
        pytest.param(
            "POST", "/Users", '{"userName":"a","schemas":["urn:scim:schemas:core:1.0"]}', 400, "invalidVers",
            id="a SCIM 1.x body",
        ),
        pytest.param("PUT", f"/Users/{uuid.UUID(int=5)}", '{"userName":"a@x"}', 404, None, id="PUT nobody"),
        pytest.param("PATCH", f"/Users/{uuid.UUID(int=5)}", "{}", 400, "invalidSyntax", id="no PatchOp"),
        pytest.param("GET", "/Users/no-id", None, 404, None, id="no id"),
        pytest.param("GET", "/Gadgets", None, 404, None, id="no endpoint"),
        pytest.param("POST", "/Gadgets", "{}", 404, None, id="no endpoint to post to"),
        pytest.param("GET", "/Users/a/b/c", None, 404, None, id="no route"),
        pytest.param("DELETE", "/Users", None, 405, None, id="wrong method"),
        pytest.param("POST", "/ServiceProviderConfig", "{}", 405, None, id="discovery is read only"),
        pytest.param("DELETE", "/Schemas", None, 405, None, id="discovery is read only too"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_refused_in_words(
    client: httpx.AsyncClient, method: str, path: str, body: str | None, status: int, scim_type: str | None
) -> None:
    answer = await client.request(method, path, content=body)
    assert is_scim_error(answer, status, scim_type), answer.text
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/iam/scim/v1/Users", "/v1/Users", "/scim/v1/Users"])
async def test_scim_1_is_refused_in_words(client: httpx.AsyncClient, stack: stacks.Stack, path: str) -> None:
    answer = await client.get(f"http://127.0.0.1:{stack.port}{path}")
    assert is_scim_error(answer, 400, "invalidVers")
    assert "SCIM 2.0" in answer.json()["detail"]


async def test_a_body_past_the_limit_is_a_413(client: httpx.AsyncClient) -> None:
    body = {"userName": "a@x", "title": "x" * 1_100_000}
    assert is_scim_error(await client.post("/Users", json=body), 413)

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x" * 100_000

    assert is_scim_error(await client.post("/Users", content=chunks()), 413)


@pytest.mark.parametrize(
    ("declared", "status"),
    [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/merge-patch+json", 415),
        ("application/xml; charset=utf-8", 415),
        ("application/scim+json; charset=utf-8", 201),
        ("Application/JSON", 201),
        ("", 201),
    ],
)
async def test_a_body_of_another_media_type_is_a_415(
    client: httpx.AsyncClient, declared: str, status: int
) -> None:
    answer = await client.post("/Users", content='{"userName":"a@x.io"}', headers={"Content-Type": declared})
    assert answer.status_code == status
    if status == 415:
        assert is_scim_error(answer, 415)
        assert answer.headers["accept"] == "application/scim+json, application/json"
        assert declared.partition(";")[0] in answer.json()["detail"]
        assert (await client.get("/Users")).json()["totalResults"] == 0


@pytest.mark.parametrize(
    ("accept", "answered"),
    [
        ("application/scim+json", "application/scim+json"),
        ("application/json", "application/json"),
        ("*/*", "application/scim+json"),
        ("application/json, application/scim+json", "application/scim+json"),
        ("text/html", "application/scim+json"),
    ],
)
async def test_the_answer_is_of_a_type_that_the_client_accepts(
    client: httpx.AsyncClient, accept: str, answered: str
) -> None:
    for path, status in (("/Users", 200), ("/Users?filter=nonsense", 400)):
        answer = await client.get(path, headers={"Accept": accept})
        assert (answer.status_code, answer.headers["content-type"]) == (status, answered)


@pytest.mark.parametrize("path", ["/Users/", "//Users", "/Users?"])
async def test_paths_are_forgiven_their_slashes(
    client: httpx.AsyncClient, acme: stacks.Access, path: str
) -> None:
    assert (await client.get(f"{acme.base_url}{path}")).status_code == 200


async def test_what_is_no_http_gets_a_scim_error_too(stack: stacks.Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), 5) as connection:
        connection.sendall(b"NONSENSE\r\n\r\n")
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 400
        assert answer.getheader("content-type") == "application/scim+json"
        assert json.loads(answer.read())["schemas"] == [messages.ERROR_SCHEMA]


async def test_a_head_without_an_end_is_refused(stack: stacks.Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.port), 5) as connection:
        connection.sendall(b"GET /iam/scim/v2/Users HTTP/1.1\r\nHost: x\r\nX-Long: ")
        with contextlib.suppress(OSError):  # it may be closed while we still send
            for _ in range(20):
                connection.sendall(b"a" * 8192)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 431
        assert json.loads(answer.read())["status"] == "431"


async def test_discovery_tells_what_there_is(client: httpx.AsyncClient, acme: stacks.Access) -> None:
    config = (await client.get("/ServiceProviderConfig")).json()
    assert (config["patch"]["supported"], config["bulk"]["supported"]) == (True, True)
    assert [one["type"] for one in config["authenticationSchemes"]] == ["oauthbearertoken"]
    types = (await client.get("/ResourceTypes")).json()["Resources"]
    assert [one["name"] for one in types] == ["User", "Group"]
    for one in types:
        assert (await client.get(one["meta"]["location"])).json() == one
    for schema in (await client.get("/Schemas")).json()["Resources"]:
        shown = await client.get(f"/Schemas/{schema['id']}")
        assert shown.status_code == 200
        assert shown.json()["attributes"]
    assert is_scim_error(await client.get("/Schemas/urn:nothing"), 404)


async def test_every_answer_carries_a_request_id(client: httpx.AsyncClient) -> None:
    assert (await client.get("/Users")).headers["x-request-id"]
    echoed = await client.get("/Users", headers={"X-Request-Id": "from-the-proxy-7"})
    assert echoed.headers["x-request-id"] == "from-the-proxy-7"


async def test_health_readiness_and_metrics_are_served(
    client: httpx.AsyncClient, stack: stacks.Stack
) -> None:
    await create(client, **ADA)
    root = f"http://127.0.0.1:{stack.port}"
    assert (await client.get(f"{root}/healthz")).status_code == 200
    assert (await client.get(f"{root}/readyz")).status_code == 200
    metrics = (await client.get(f"{root}/metrics")).text
    assert 'usher_changes_accepted_total{operation="create"}' in metrics
    assert 'usher_requests_total{endpoint="/iam/scim/v2/{endpoint}",method="POST",status="201"}' in metrics
