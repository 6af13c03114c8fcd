"""Each switch of a tenant's manifest changes what its identity provider is answered."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import httpx
import psycopg
import pytest
from click.testing import CliRunner, Result
from psycopg.types.json import Jsonb

from usher_core import errors
from usher_core.changes import policies
from usher_core.testing import stacks
from usher_core.users import commands

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
ADA = {"userName": "ada@x.io", "externalId": "00u1", "active": True}
OFF = {"op": "Replace", "path": "active", "value": "False"}
RENAME = {"op": "replace", "path": "displayName", "value": "Team"}
TITLE = {"op": "add", "path": "title", "value": "Countess"}


def patch_op(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


def configure(stack: stacks.Stack, tenant: stacks.Access, **config: Any) -> None:
    """Store a configuration as the operator does; an api that knows the tenant sees it within a second."""
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(tenant.tenant),))
        app.execute("UPDATE tenants SET config = %s", (Jsonb(config),))


async def configure_at_once(stack: stacks.Stack, tenant: stacks.Access, **config: Any) -> None:
    configure(stack, tenant, **config)
    await asyncio.sleep(1.05)


def is_refused(answer: httpx.Response, status: int, scim_type: str | None, *words: str) -> bool:
    body = answer.json()
    told = body.get("detail", "")
    return (answer.status_code, body.get("scimType")) == (status, scim_type) and all(w in told for w in words)


async def create(client: httpx.AsyncClient, endpoint: str = "/Users", **body: Any) -> dict[str, Any]:
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def test_each_action_is_refused_where_it_is_left_out_and_by_its_name(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    user = await create(client, **ADA)
    group = await create(client, "/Groups", displayName="Team")
    of_user, of_group = f"/Users/{user['id']}", f"/Groups/{group['id']}"
    writes: list[tuple[str, str, str, Any]] = [
        ("CreateUsers", "POST", "/Users", {"userName": "bob@x.io"}),
        ("UpdateUsers", "PATCH", of_user, patch_op(TITLE)),
        ("UpdateUsers", "PUT", of_user, ADA | {"title": "Lady"}),
        ("DeactivateUsers", "PATCH", of_user, patch_op(OFF)),
        ("DeactivateUsers", "PATCH", of_user, patch_op({"op": "remove", "path": "active"})),
        ("DeactivateUsers", "PUT", of_user, ADA | {"active": False}),
        ("DeleteUsers", "DELETE", of_user, None),
        ("PushGroups", "POST", "/Groups", {"displayName": "Other"}),
        ("PushGroups", "PUT", of_group, {"displayName": "Crew"}),
        ("PushGroups", "PATCH", of_group, patch_op({"op": "add", "path": "displayName", "value": "Crew"})),
        ("PushGroups", "DELETE", of_group, None),
    ]
    before = [(await client.get(path)).json() for path in (of_user, of_group)]
    for left_out in policies.ACTIONS:
        configure(stack, acme, actions=sorted(set(policies.ACTIONS) - {left_out}))
        await asyncio.sleep(1.05)
        for action, method, path, body in writes:
            if action == left_out:
                answer = await client.request(method, path, json=body)
                assert is_refused(answer, 403, None, left_out), (method, path, answer.text)
    configure(stack, acme, actions=[])
    await asyncio.sleep(1.05)
    for _, method, path, body in writes:
        assert (await client.request(method, path, json=body)).status_code == 403
    assert [(await client.get(path)).json() for path in (of_user, of_group)] == before


@pytest.mark.parametrize(
    ("actions", "patch", "bulk"),
    [
        pytest.param(sorted(policies.ACTIONS), True, True, id="all of them"),
        pytest.param(["DeactivateUsers"], True, True, id="users can be deactivated"),
        pytest.param(["PushGroups"], True, True, id="groups can be changed"),
        pytest.param(["CreateUsers", "DeleteUsers"], False, True, id="nothing can be changed"),
        pytest.param([], False, False, id="nothing can be written"),
    ],
)
async def test_discovery_tells_what_the_actions_leave(
    client: httpx.AsyncClient,
    acme: stacks.Access,
    stack: stacks.Stack,
    actions: list[str],
    *,
    patch: bool,
    bulk: bool,
) -> None:
    configure(stack, acme, actions=actions, user_name_format="Any")
    config = (await client.get("/ServiceProviderConfig")).json()
    assert (config["patch"]["supported"], config["bulk"]["supported"]) == (patch, bulk)
    statuses = {
        (await client.patch(f"/{kind}/{acme.tenant}", json=patch_op(operation))).status_code
        for kind, operation in (("Users", OFF), ("Users", TITLE), ("Groups", RENAME))
    }
    # Nobody has that id: what is let in finds nothing.
    assert statuses == ({403, 404} if patch and len(actions) == 1 else {404} if patch else {403})


async def test_a_put_that_only_deactivates_takes_deactivate_users_alone(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    configure(stack, acme, actions=["CreateUsers", "DeactivateUsers"])
    user = await create(client, **ADA)
    read = (await client.get(f"/Users/{user['id']}")).json()
    both = await client.put(f"/Users/{user['id']}", json=read | {"active": False, "title": "Countess"})
    assert is_refused(both, 403, None, "UpdateUsers")
    # Okta puts back what it read, with active turned off.
    answer = await client.put(f"/Users/{user['id']}", json=read | {"active": False})
    assert (answer.status_code, answer.json()["active"]) == (200, False)
    again = await client.put(f"/Users/{user['id']}", json=read)
    assert is_refused(again, 403, None, "UpdateUsers")


async def test_a_living_tenant_s_new_configuration_is_obeyed_within_a_second(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    user = await create(client, **ADA)
    path = f"/Users/{user['id']}"
    for actions, wanted in ((["UpdateUsers"], 403), (["DeactivateUsers"], 200)):
        configure(stack, acme, actions=actions)
        changed = time.monotonic()
        while (answer := await client.patch(path, json=patch_op(OFF))).status_code != wanted:
            assert time.monotonic() - changed < 1.1, answer.text
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("name", ["ada", "ada@", "@x.io", "a@b@c", "ada lovelace@x.io", "a" * 250 + "@x.io"])
async def test_a_user_name_that_is_no_address_is_refused(client: httpx.AsyncClient, name: str) -> None:
    assert is_refused(
        await client.post("/Users", json={"userName": name}), 400, "invalidValue", "userName", "email"
    )
    user = await create(client, **ADA)
    path = f"/Users/{user['id']}"
    rename = patch_op({"op": "replace", "path": "userName", "value": name})
    assert is_refused(await client.patch(path, json=rename), 400, "invalidValue", "userName")
    assert is_refused(await client.put(path, json=ADA | {"userName": name}), 400, "invalidValue", "userName")
    assert (await client.get(path)).json()["userName"] == "ada@x.io"


async def test_any_user_name_is_taken_where_the_tenant_says_so_and_may_stay_when_it_no_longer_does(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    configure(stack, acme, user_name_format="Any")
    user = await create(client, userName="ada", active=True)
    path = f"/Users/{user['id']}"
    await configure_at_once(stack, acme, user_name_format="Email")
    answer = await client.put(path, json={"userName": "ada", "active": False})
    assert (answer.status_code, answer.json()["active"]) == (200, False)
    assert is_refused(await client.put(path, json={"userName": "bob"}), 400, "invalidValue", "userName")


async def test_a_group_patch_answers_with_the_group_where_the_tenant_says_so(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    configure(stack, acme, group_patch_status=200)
    ada = await create(client, **ADA)
    group = await create(client, "/Groups", displayName="Team")
    add = patch_op({"op": "add", "path": "members", "value": [{"value": ada["id"]}]})
    answer = await client.patch(f"/Groups/{group['id']}", json=add)
    assert answer.status_code == 200
    assert (answer.json()["displayName"], answer.headers["etag"]) == ("Team", 'W/"2"')
    assert [one["value"] for one in answer.json()["members"]] == [ada["id"]]


async def test_a_user_s_patch_answers_nothing_where_the_tenant_says_so(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    configure(stack, acme, user_patch_status=204)
    path = f"/Users/{(await create(client, **ADA))['id']}"
    answer = await client.patch(path, json=patch_op(TITLE))
    assert (answer.status_code, answer.content) == (204, b"")
    read = await client.get(path)
    assert read.json()["title"] == "Countess"
    assert answer.headers["etag"] == read.headers["etag"] == 'W/"2"'
    for query, shown in (("attributes=title", "title"), ("excludedAttributes=title", "userName")):
        asked = await client.patch(f"{path}?{query}", json=patch_op(TITLE))
        assert asked.status_code == 200
        assert shown in asked.json()
    # What is said of users is not said of groups, and the other way round.
    group = await create(client, "/Groups", displayName="Team")
    await configure_at_once(stack, acme, user_patch_status=204, group_patch_status=200)
    rename = patch_op({"op": "replace", "path": "displayName", "value": "Crew"})
    assert (await client.patch(f"/Groups/{group['id']}", json=rename)).status_code == 200
    await configure_at_once(stack, acme, group_patch_status=204)
    assert (await client.patch(path, json=patch_op(TITLE))).status_code == 200


async def test_an_operation_without_a_path_is_refused_where_the_tenant_says_so(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    user = await create(client, **ADA)
    path = f"/Users/{user['id']}"
    pathless = patch_op(TITLE, {"op": "replace", "value": {"active": False}})
    assert (await client.patch(path, json=pathless)).status_code == 200
    await configure_at_once(stack, acme, pathless_patch=False)
    answer = await client.patch(path, json=pathless)
    assert is_refused(answer, 400, "invalidPath", "Operations[1]", "path")
    assert (await client.patch(path, json=patch_op(TITLE))).status_code == 200


UNKNOWN_IN_BODIES = [
    pytest.param({"usrType": "x"}, "userType", id="an attribute"),
    pytest.param({"usrType": None}, "userType", id="an attribute that is null"),
    pytest.param({"name": {"givenNam": "Ada"}}, "givenName", id="a sub-attribute"),
    pytest.param({"emails": [{"value": "a@x.io"}, {"vale": "b@x.io"}]}, "value", id="in an element"),
    pytest.param({ENTERPRISE: {"departmnt": "x"}}, "departmnt", id="in an extension"),
    pytest.param({ENTERPRISE: {"manager": {"valu": "x"}}}, "value", id="deep in an extension"),
    pytest.param({f"{ENTERPRISE}:departmnt": "x"}, "department", id="a flat key"),
    pytest.param({"urn:example:other": {"a": 1}}, "urn:example:other", id="another schema"),
]
UNKNOWN_IN_PATCHES = [
    pytest.param({"op": "add", "path": "usrType", "value": "x"}, "userType", id="a path"),
    pytest.param({"op": "add", "value": {"usrType": "x"}}, "userType", id="no path"),
    pytest.param({"op": "add", "value": {"name": {"givenNam": "x"}}}, "givenName", id="no path, inside"),
    pytest.param({"op": "add", "path": "name", "value": {"givenNam": "x"}}, "givenName", id="inside"),
    pytest.param(
        {"op": "add", "path": 'emails[type eq "work"]', "value": {"vale": "x@x.io"}}, "value", id="an element"
    ),
    pytest.param({"op": "add", "value": {ENTERPRISE: {"departmnt": "x"}}}, "department", id="an extension"),
]


@pytest.mark.parametrize(("more", "told"), UNKNOWN_IN_BODIES)
async def test_an_unknown_attribute_is_refused_where_the_tenant_says_so(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack, more: dict[str, Any], told: str
) -> None:
    configure(stack, acme, ignore_unknown_attributes=False)
    assert is_refused(await client.post("/Users", json=ADA | more), 400, "invalidValue", told)
    user = await create(client, **ADA)
    assert is_refused(await client.put(f"/Users/{user['id']}", json=ADA | more), 400, "invalidValue", told)


@pytest.mark.parametrize(("operation", "told"), UNKNOWN_IN_PATCHES)
async def test_an_unknown_attribute_of_a_patch_is_refused_where_the_tenant_says_so(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack, operation: Any, told: str
) -> None:
    configure(stack, acme, ignore_unknown_attributes=False)
    user = await create(client, **ADA)
    answer = await client.patch(f"/Users/{user['id']}", json=patch_op(operation))
    assert answer.status_code == 400
    assert answer.json()["scimType"] in ("invalidValue", "invalidPath")
    assert told in answer.json()["detail"]


async def test_what_is_known_passes_where_unknown_attributes_are_refused(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    configure(stack, acme, ignore_unknown_attributes=False)
    boss = await create(client, userName="boss@x.io")
    user = await create(
        client, **ADA, id="theirs", schemas=["urn:other"], meta={"resourceType": "User"}, groups=[],
        password="x", roles=[{"value": '{"id":"r","value":"Admin","displayName":"Admin"}'}],
        emails=[{"value": "ada@x.io", "type": "work", "primary": True}], NAME={"GIVENNAME": "Ada"},
        **{ENTERPRISE: {"manager": {"managerId": boss["id"]}}, f"{ENTERPRISE}:department": "Math"},
    )  # fmt: skip
    group = await create(client, "/Groups", displayName="Team", members=[{"value": user["id"], "$ref": None}])
    read = (await client.get(f"/Users/{user['id']}")).json()
    assert read["groups"][0]["value"] == group["id"]
    assert (await client.put(f"/Users/{user['id']}", json=read)).status_code == 200
    patch = patch_op({"op": "replace", "value": read}, {"op": "add", "path": "manager", "value": boss["id"]})
    assert (await client.patch(f"/Users/{user['id']}", json=patch)).status_code == 200


@pytest.mark.parametrize(
    "off", [OFF, {"op": "remove", "path": "active"}], ids=["inactive", "without the attribute"]
)
async def test_a_user_that_is_inactive_here_is_revived_by_its_creation(
    client: httpx.AsyncClient, acme: stacks.Access, off: dict[str, Any]
) -> None:
    made = await create(client, **ADA, title="Countess")
    group = await create(client, "/Groups", displayName="Admins", members=[{"value": made["id"]}])
    path = f"/Users/{made['id']}"
    assert (await client.patch(path, json=patch_op(off))).status_code == 200
    assert (await client.post("/Users", json=ADA | {"externalId": "00u2"})).status_code == 409
    answer = await client.post("/Users", json=ADA)
    assert answer.status_code == 201
    revived = answer.json()
    assert (revived["id"], revived["active"], answer.headers["etag"]) == (made["id"], True, 'W/"3"')
    assert answer.headers["location"] == f"{acme.base_url}{path}"
    assert revived["meta"]["created"] == made["meta"]["created"]
    assert "title" not in revived
    assert (await client.get(path)).json() == revived
    # No old privilege comes back with the user.
    assert "members" not in (await client.get(f"/Groups/{group['id']}")).json()
    assert (await client.get("/Users")).json()["totalResults"] == 1
    assert (await client.post("/Users", json=ADA)).status_code == 409


async def test_a_tenant_may_refuse_to_revive(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack
) -> None:
    configure(stack, acme, revive_inactive=False)
    await create(client, **ADA | {"active": False})
    assert is_refused(await client.post("/Users", json=ADA), 409, "uniqueness", "userName")


async def run_users(stack: stacks.Stack, redis_url: str, *arguments: str) -> Result:
    env = {"USHER_DATABASE_URL": stack.database_url, "USHER_REDIS_URL": redis_url}
    runner = CliRunner()
    return await asyncio.to_thread(runner.invoke, commands.users, arguments, env=env)


async def name_of(stack: stacks.Stack, tenant: stacks.Access) -> str:
    with psycopg.connect(stack.database_url) as app:
        app.execute("SELECT set_config('usher.tenant', %s, false)", (str(tenant.tenant),))
        [(namespace, name)] = app.execute("SELECT namespace, name FROM tenants").fetchall()
    return f"{namespace}/{name}"


@pytest.fixture
def redis_of_stack(stack: stacks.Stack) -> str:
    return stack._env["USHER_REDIS_URL"]


async def test_a_deleted_user_is_listed_and_restored_by_the_command(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack, redis_of_stack: str
) -> None:
    tenant = ("--tenant", await name_of(stack, acme))
    nothing = await run_users(stack, redis_of_stack, "list-deleted", *tenant)
    assert (nothing.exit_code, nothing.output) == (0, "No deleted user can be restored.\n")
    made = await create(client, **ADA)
    await create(client, "/Groups", displayName="Admins", members=[{"value": made["id"]}])
    assert (await client.delete(f"/Users/{made['id']}")).status_code == 204
    assert (await client.get(f"/Users/{made['id']}")).status_code == 404
    listed = await run_users(stack, redis_of_stack, "list-deleted", *tenant)
    assert made["id"] in listed.output
    assert "ada@x.io" in listed.output
    [told] = json.loads((await run_users(stack, redis_of_stack, "list-deleted", "--json", *tenant)).output)
    assert (told["id"], told["userName"], told["externalId"]) == (made["id"], "ada@x.io", "00u1")
    restored = await run_users(stack, redis_of_stack, "restore", *tenant, made["id"])
    assert (restored.exit_code, made["id"] in restored.output) == (0, True), restored.exception
    shown = (await client.get(f"/Users/{made['id']}")).json()
    assert (shown["userName"], shown["active"], shown["meta"]["version"]) == ("ada@x.io", True, 'W/"2"')
    assert "groups" not in shown
    again = await run_users(stack, redis_of_stack, "restore", *tenant, made["id"])
    assert isinstance(again.exception, errors.UsherError)
    assert "no deleted user" in str(again.exception)


async def test_the_command_says_that_the_name_was_taken_meanwhile(
    client: httpx.AsyncClient, acme: stacks.Access, stack: stacks.Stack, redis_of_stack: str
) -> None:
    made = await create(client, **ADA)
    await client.delete(f"/Users/{made['id']}")
    heir = await create(client, **ADA)
    assert heir["id"] != made["id"]
    refused = await run_users(
        stack, redis_of_stack, "restore", "--tenant", await name_of(stack, acme), made["id"]
    )
    assert isinstance(refused.exception, errors.UsherError)
    assert "userName is taken" in str(refused.exception)
    assert (await client.get(f"/Users/{heir['id']}")).status_code == 200


@pytest.mark.parametrize(
    ("tenant", "told"), [("acme", "NAMESPACE/NAME"), ("nowhere/nobody", "there is no such tenant")]
)
async def test_the_command_says_which_tenant_it_does_not_know(
    stack: stacks.Stack, redis_of_stack: str, tenant: str, told: str
) -> None:
    refused = await run_users(stack, redis_of_stack, "list-deleted", "--tenant", tenant)
    assert isinstance(refused.exception, errors.ConfigurationInvalid)
    assert told in str(refused.exception)
