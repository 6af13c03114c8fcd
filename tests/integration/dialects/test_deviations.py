"""Where identity providers bend the RFC they are understood, and what they send too much is left out."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from usher_core.scim import messages

CORE = "urn:ietf:params:scim:schemas:core:2.0"
ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"
ADA: dict[str, Any] = {
    "userName": "ada@x.io",
    "active": True,
    "title": "Countess",
    "name": {"givenName": "Ada", "familyName": "Lovelace"},
    "emails": [{"type": "work", "value": "ada@x.io", "primary": True}, {"type": "home", "value": "h@x.io"}],
    ENTERPRISE: {"department": "Analysis", "manager": {"value": "9"}},
}
WORK, HOME = ADA["emails"]


def patch_op(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [messages.PATCH_OP_SCHEMA], "Operations": list(operations)}


async def create(client: httpx.AsyncClient, endpoint: str = "/Users", **body: Any) -> dict[str, Any]:
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


@pytest.mark.parametrize(
    ("operations", "wanted"),
    [
        pytest.param(
            [{"op": "Replace", "path": "active", "value": "False"}],
            {"active": False},
            id="a boolean in a string",
        ),
        pytest.param(
            [{"op": "replace", "value": {"name.givenName": "K", f"{ENTERPRISE}:employeeNumber": "7"}}],
            {
                "name": {"givenName": "K", "familyName": "Lovelace"},
                ENTERPRISE: ADA[ENTERPRISE] | {"employeeNumber": "7"},
            },
            id="paths as keys",
        ),
        pytest.param(
            [{"op": "Replace", "path": 'emails[type eq "work"].value', "value": "n@x"}],
            {"emails": [WORK | {"value": "n@x"}, HOME]},
            id="a value path",
        ),
        pytest.param(
            [{"op": "Add", "path": 'addresses[type eq "work"].formatted', "value": "18/2"}],
            {"addresses": [{"type": "work", "formatted": "18/2"}]},
            id="a value path that makes its element",
        ),
        pytest.param(
            [
                {"op": "Add", "path": 'addresses[type eq "work"].formatted', "value": "18/2"},
                {"op": "Add", "path": 'addresses[type eq "work"].postalCode', "value": "4111"},
            ],
            {"addresses": [{"type": "work", "formatted": "18/2", "postalCode": "4111"}]},
            id="value paths that share it",
        ),
        pytest.param(
            [{"op": "Add", "path": "title", "value": "Duchess"}],
            {"title": "Duchess"},
            id="an add that replaces",
        ),
        pytest.param(
            [{"op": "Add", "path": f"{ENTERPRISE}:manager", "value": "271"}],
            {ENTERPRISE: {"department": "Analysis", "manager": {"value": "271"}}},
            id="a manager in a string",
        ),
        pytest.param(
            [{"op": "Add", "path": "manager", "value": [{"$ref": "http://h/Users/9", "value": "8"}]}],
            {ENTERPRISE: {"department": "Analysis", "manager": {"value": "8", "$ref": "http://h/Users/9"}}},
            id="a manager in an array, without its schema",
        ),
        pytest.param(
            [{"op": "remove", "path": 'manager[value eq "9"]'}],
            {ENTERPRISE: {"department": "Analysis"}},
            id="the manager of a filter",
        ),
        pytest.param(
            [{"op": "Replace", "path": f"{ENTERPRISE}:manager", "value": ""}],
            {ENTERPRISE: {"department": "Analysis"}},
            id="no manager in an empty string",
        ),
        pytest.param(
            [
                {
                    "op": "Add",
                    "path": "roles",
                    "value": [{"value": '{"id":"r","value":"Admin","displayName":"Admin"}'}],
                }
            ],
            {"roles": [{"value": "Admin", "display": "Admin"}]},
            id="a role as JSON in a string",
        ),
        pytest.param(
            [
                {"op": "Replace", "path": "TITLE", "value": "T"},
                {"op": "ADD", "path": "Name.GivenName", "value": "G"},
            ],
            {"title": "T", "name": {"givenName": "G", "familyName": "Lovelace"}},
            id="names in any case",
        ),
        pytest.param(
            [{"op": "replace", "value": {"title": None, "nickName": None}}],
            {"title": None, "nickName": None},
            id="nulls that unassign",
        ),
        pytest.param(
            [{"op": "replace", "value": {"id": "x", "meta": {}, "groups": [], "unknown": 1, "title": "T"}}],
            {"title": "T"},
            id="what is not the client's to say",
        ),
    ],
)  # fmt: skip
async def test_an_operation_means_what_its_sender_means(
    client: httpx.AsyncClient, operations: list[dict[str, Any]], wanted: dict[str, Any]
) -> None:
    made = await create(client, **ADA)
    answer = await client.patch(f"/Users/{made['id']}", json=patch_op(*operations))
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert {key: changed.get(key) for key in wanted} == wanted
    rest = made.keys() - wanted.keys() - {"meta", "schemas"}
    assert {key: changed.get(key) for key in rest} == {key: made[key] for key in rest}


@pytest.mark.parametrize(
    ("operation", "left"),
    [
        pytest.param({"op": "Remove", "path": "members", "value": "[0]"}, "1", id="those listed"),
        pytest.param({"op": "remove", "path": "members"}, "", id="all"),
        pytest.param({"op": "remove", "path": "members", "value": []}, "01", id="an empty list"),
        pytest.param({"op": "remove", "path": "members", "value": [{"x": 1}]}, "01", id="a malformed list"),
        pytest.param({"op": "replace", "path": "members", "value": "[1]"}, "1", id="full replacement"),
        pytest.param({"op": "replace", "value": {"members": "[2]"}}, "2", id="the same without a path"),
        pytest.param({"op": "replace", "value": {"displayName": "H"}}, "01", id="no mention of members"),
        pytest.param({"op": "add", "value": {"members": "[2]"}}, "012", id="add without a path"),
        pytest.param({"op": "add", "path": "members", "value": "[0]"}, "01", id="again"),
    ],
)
async def test_memberships_are_changed_as_meant(
    client: httpx.AsyncClient, operation: dict[str, Any], left: str
) -> None:
    people = [(await create(client, userName=f"p{number}@x.io"))["id"] for number in range(3)]

    def filled(value: Any) -> Any:
        if isinstance(value, str) and value.startswith("["):
            return [{"value": people[int(value[1])]}]
        if isinstance(value, dict):
            return {key: filled(item) for key, item in value.items()}
        return value

    group = await create(client, "/Groups", displayName="G", members=[{"value": one} for one in people[:2]])
    answer = await client.patch(f"/Groups/{group['id']}", json=patch_op(filled(operation)))
    assert answer.status_code == 204, answer.text
    members = (await client.get(f"/Groups/{group['id']}")).json().get("members", [])
    assert [member["value"] for member in members] == [people[int(number)] for number in left]
    assert {member["type"] for member in members} <= {"User"}


async def test_a_put_of_a_group_without_members_leaves_them_alone(client: httpx.AsyncClient) -> None:
    ada = await create(client, userName="ada@x.io")
    group = await create(client, "/Groups", displayName="G", members=[{"value": ada["id"]}])
    path = f"/Groups/{group['id']}"
    for body in ({"displayName": "H"}, {"displayName": "H", "members": None}):
        answer = await client.put(path, json=body)
        assert [member["value"] for member in answer.json()["members"]] == [ada["id"]]
    assert "members" not in (await client.put(path, json={"displayName": "H", "members": []})).json()


async def test_active_null_does_not_become_true(client: httpx.AsyncClient) -> None:
    made = await create(client, userName="ada@x.io", active=False)
    path = f"/Users/{made['id']}"
    answer = await client.put(path, json={"userName": "ada@x.io", "active": None})
    assert answer.status_code == 200
    assert answer.json().get("active") is not True
    answer = await client.patch(path, json=patch_op({"op": "replace", "value": {"active": None}}))
    assert answer.json().get("active") is not True


async def test_what_is_the_services_own_is_ignored_and_what_is_unknown_left_out(
    client: httpx.AsyncClient,
) -> None:
    body = ADA | {
        "schemas": [f"{CORE}:User", ENTERPRISE, "urn:example:ours:User"],
        "id": "mine",
        "meta": {"resourceType": "Thing", "version": 'W/"99"', "created": "1999-01-01T00:00:00Z"},
        "groups": [{"value": "admins", "display": "Admins"}],
        "password": "kN0w",
        "nickName": None,
        "phoneNumbers": [],
        "favouriteColour": "blue",
        "urn:example:ours:User": {"badge": 7},
        "name": ADA["name"] | {"initials": "A. L."},
    }
    made = await create(client, **body)
    assert made["schemas"] == [f"{CORE}:User", ENTERPRISE]
    assert made["id"] != "mine"
    assert (made["meta"]["resourceType"], made["meta"]["version"]) == ("User", 'W/"1"')
    known = {"schemas", "id", "meta"} | ADA.keys()
    assert made.keys() == known
    assert {key: made[key] for key in ADA} == ADA
    answer = await client.put(f"/Users/{made['id']}", json=body)
    assert answer.json() == made


async def test_a_member_is_a_user_unless_it_is_said_to_be_a_group(client: httpx.AsyncClient) -> None:
    ada = await create(client, userName="ada@x.io")
    inner = await create(client, "/Groups", displayName="Inner")
    members = [{"value": ada["id"]}, {"value": inner["id"], "type": "Group"}]
    outer = await create(client, "/Groups", displayName="Outer", members=members)
    assert [(member["value"], member["type"]) for member in outer["members"]] == [
        (ada["id"], "User"),
        (inner["id"], "Group"),
    ]
