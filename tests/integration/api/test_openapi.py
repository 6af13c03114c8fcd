"""The OpenAPI document tells the truth: what is served is what it says, whatever is sent."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi.routing
import httpx
import jsonschema
import pytest

from usher_api import routes
from usher_core.testing import stacks

HERE = Path(__file__).parent
BASE = "/iam/scim/v2"
USER = "urn:ietf:params:scim:schemas:core:2.0:User"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
BULK = "urn:ietf:params:scim:api:messages:2.0:BulkRequest"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"


@pytest.fixture(scope="module")
def document(stack: stacks.Stack) -> dict[str, Any]:
    answer = httpx.get(f"http://127.0.0.1:{stack.port}/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    told: dict[str, Any] = answer.json()
    return told


def test_the_document_needs_no_token_and_names_every_path(document: dict[str, Any]) -> None:
    assert document["openapi"] == "3.1.0"
    assert {f"{BASE}/Users", f"{BASE}/Groups/{{resource_id}}", f"{BASE}/.search"} <= document["paths"].keys()


def test_every_answer_to_requests_made_from_the_document_is_one_that_it_tells(
    stack: stacks.Stack, acme: stacks.Access, tmp_path: Path
) -> None:
    # Schemathesis: each operation with valid, broken and missing parts, along its links, by other methods.
    program = [sys.executable, "-m", "schemathesis.cli", "--config-file", HERE / "hostile_requests.toml"]
    given = {"USHER_TEST_TOKEN": acme.token, "SCHEMATHESIS_HOOKS": str(HERE / "hostile_checks.py")}
    ran = subprocess.run(
        [*program, "run", "--no-color", f"http://127.0.0.1:{stack.port}/openapi.json"],
        cwd=tmp_path,
        env=os.environ | given,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-10_000:] + ran.stderr[-2000:]
    assert "request.failed" not in stack.log("api")


# What a resource's answers really hold


def closed(schema: Any) -> Any:
    """Forbid what an object's schema does not name, so that nothing is answered that is not told."""
    if isinstance(schema, list):
        return [closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    held = {name: closed(value) for name, value in schema.items()}
    return held | {"additionalProperties": False} if "properties" in schema and "type" in schema else held


@pytest.fixture(scope="module")
def strictly(document: dict[str, Any]) -> Any:
    """Check an answer against what the document tells of the operation's answers of that status."""
    root = closed(document)
    # RFC 7643 §7: the schema of schemas lies deeper than it can tell.
    root["components"]["schemas"]["Schema"] = document["components"]["schemas"]["Schema"]

    def check(answer: httpx.Response, path: str) -> None:
        operation = root["paths"][BASE + path][answer.request.method.lower()]
        told = operation["responses"][str(answer.status_code)]
        if "$ref" in told:
            told = root["components"]["responses"][told["$ref"].rpartition("/")[2]]
        assert {name for name in told["headers"] if name in ("ETag", "Location")} == {
            name for name in ("ETag", "Location") if name in answer.headers
        }
        if "content" not in told:
            assert answer.content == b""
            return
        schema = told["content"][answer.headers["content-type"]]["schema"]
        whole = schema | {"components": root["components"]}  # which its references point into
        jsonschema.Draft202012Validator(whole).validate(answer.json())

    return check


FULL = {
    "schemas": [USER],
    "userName": "ada@x.io",
    "externalId": "1",
    "name": {"givenName": "Ada"},
    "emails": [{"value": "ada@x.io", "type": "work", "primary": True}],
    "x509Certificates": [{"value": "AAAA"}],
    "roles": [{"value": "r", "display": "R"}],
    "active": True,
    "password": "pass",
    ENTERPRISE: {"department": "D", "manager": {"value": "1"}},
}


async def test_an_answer_holds_nothing_that_the_document_does_not_tell(
    client: httpx.AsyncClient, strictly: Any
) -> None:
    made = await client.post("/Users", json=FULL)
    assert made.status_code == 201
    strictly(made, "/Users")
    user = made.json()["id"]
    group = await client.post("/Groups", json={"displayName": "G", "members": [{"value": user}]})
    assert group.status_code == 201
    strictly(group, "/Groups")
    one = "/{resource_id}"
    whole = f"/Groups/{group.json()['id']}"
    for answer, path in (
        (await client.get(f"/Users/{user}"), f"/Users{one}"),
        (await client.get(f"/Users/{user}?attributes=userName"), f"/Users{one}"),
        (await client.get(whole), f"/Groups{one}"),
        (await client.get(whole, headers={"Accept": "application/json"}), f"/Groups{one}"),
        (await client.get(whole, headers={"If-None-Match": group.headers["etag"]}), f"/Groups{one}"),
        (await client.get("/Users"), "/Users"),
        (await client.get("/Users?cursor=&count=1"), "/Users"),
        (await client.get(""), ""),
        (await client.post("/.search", json={"filter": "id pr"}), "/.search"),
        (await client.post("/Groups/.search", json={}), "/Groups/.search"),
        (await client.put(f"/Users/{user}", json=FULL), f"/Users{one}"),
        (await client.patch(whole, json=replace("displayName", "H")), f"/Groups{one}"),
        (await client.patch(f"{whole}?attributes=id", json=replace("displayName", "I")), f"/Groups{one}"),
        (await client.post("/Users", json=FULL), "/Users"),
        (await client.put(f"/Users/{user}", json=FULL, headers={"If-Match": '"9"'}), f"/Users{one}"),
        (await client.get("/Users?filter=x"), "/Users"),
        (await client.get("/Me"), "/Me"),
        (await client.post("/Bulk", json=several(user)), "/Bulk"),
        (await client.delete(whole), f"/Groups{one}"),
        (await client.get(whole), f"/Groups{one}"),
        (await client.get("/ServiceProviderConfig"), "/ServiceProviderConfig"),
        (await client.get("/ResourceTypes"), "/ResourceTypes"),
        (await client.get("/ResourceTypes/User"), "/ResourceTypes/{name}"),
        (await client.get("/Schemas"), "/Schemas"),
        (await client.get(f"/Schemas/{USER}"), "/Schemas/{urn}"),
        (await client.get("/Schemas", headers={"Authorization": "Bearer x"}), "/Schemas"),
    ):  # fmt: skip
        strictly(answer, path)


def several(user: str) -> dict[str, Any]:
    listed = (
        {"method": "POST", "path": "/Groups", "bulkId": "g", "data": {"displayName": "B"}},
        {"method": "PATCH", "path": f"/Users/{user}", "data": replace("title", "T")},
        {"method": "POST", "path": "/Users", "bulkId": "u", "data": {}},
        {"method": "BREW", "path": "/Users"},
    )
    return {"schemas": [BULK], "Operations": list(listed)}


def replace(path: str, value: Any) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": [{"op": "replace", "path": path, "value": value}]}


# HEAD (RFC 9110 §9.3.2)


def readable() -> Iterator[str]:
    """List every path that has a GET, once with something there and once without."""
    yield from ("/openapi.json", "/healthz", "/readyz")
    for route in routes.router.routes:
        assert isinstance(route, fastapi.routing.APIRoute)
        if "GET" in (route.methods or ()):
            for names in (("User", USER), ("Nothing", "urn:nothing")):
                open_parts = {"name": names[0], "urn": names[1], "endpoint": f"{names[0]}s"}
                yield route.path.format(resource_id=uuid.UUID(int=5), **open_parts)


def told(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name not in ("date", "x-request-id")}


@pytest.mark.parametrize("path", sorted(set(readable())))
async def test_head_is_a_get_without_a_body(
    client: httpx.AsyncClient, stack: stacks.Stack, path: str
) -> None:
    url = f"http://127.0.0.1:{stack.port}{path}"
    got, headed = await client.get(url), await client.head(url)
    assert (headed.status_code, headed.content) == (got.status_code, b"")
    assert told(headed) == told(got)
    assert int(headed.headers["content-length"]) == len(got.content)


async def test_head_tells_the_version_and_heeds_if_none_match(client: httpx.AsyncClient) -> None:
    made = (await client.post("/Groups", json={"displayName": "G"})).json()
    url = f"/Groups/{made['id']}"
    headed = await client.head(url)
    assert (headed.status_code, headed.headers["etag"]) == (200, made["meta"]["version"])
    unchanged = await client.head(url, headers={"If-None-Match": headed.headers["etag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")


async def test_head_without_a_token_is_a_401(stack: stacks.Stack) -> None:
    async with httpx.AsyncClient() as anybody:
        answer = await anybody.head(f"{stack.base_url}/Users")
    assert (answer.status_code, answer.content) == (401, b"")
    assert answer.headers["www-authenticate"] == 'Bearer realm="usher"'


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        pytest.param("/Users", "GET, HEAD, POST", id="a type"),
        pytest.param(f"/Users/{uuid.UUID(int=5)}", "DELETE, GET, HEAD, PATCH, PUT", id="a resource"),
        pytest.param("/Users/.search", "POST", id="a search"),
        pytest.param("/.search", "POST", id="a search of everything"),
        pytest.param("/Bulk", "POST", id="bulk"),
        pytest.param("", "GET, HEAD", id="the root"),
        pytest.param("/Me", "DELETE, GET, HEAD, PATCH, POST, PUT", id="nobody"),
        pytest.param("/Schemas", "GET, HEAD", id="schemas"),
        pytest.param(f"/Schemas/{USER}", "GET, HEAD", id="a schema"),
        pytest.param("/ServiceProviderConfig", "GET, HEAD", id="what the service can do"),
    ],
)
async def test_a_405_allows_exactly_what_the_path_has(
    client: httpx.AsyncClient, path: str, allowed: str
) -> None:
    for method in ("OPTIONS", "TRACE", "GET", "PUT", "POST", "PATCH", "DELETE", "HEAD"):
        if method not in allowed.split(", "):
            answer = await client.request(method, path)
            assert (answer.status_code, answer.headers.get("allow")) == (405, allowed)
