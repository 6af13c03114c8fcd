"""Groups within groups, as a client sees them."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from usher_core.scim import messages


async def create(client: httpx.AsyncClient, endpoint: str, **body: Any) -> str:
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["id"])


@pytest.fixture
async def people(client: httpx.AsyncClient) -> dict[str, str]:
    """Ada in Inner and in Outer, Bob in nothing but Inner, Outer holding Middle and Middle Inner."""
    made = {name: await create(client, "/Users", userName=f"{name}@x.io") for name in ("ada", "bob", "eve")}
    for name, members in (("Inner", ["ada", "bob"]), ("Middle", ["Inner"]), ("Outer", ["Middle", "ada"])):
        held = [{"value": made[one]} for one in members]
        made[name] = await create(client, "/Groups", displayName=name, members=held)
    return made


async def test_a_user_shows_the_groups_that_hold_it_directly_and_indirectly(
    client: httpx.AsyncClient, people: dict[str, str]
) -> None:
    answer = await client.get(f"/Users/{people['bob']}")
    shown = answer.json()["groups"]
    assert [(one["display"], one["type"]) for one in shown] == [
        ("Inner", "direct"), ("Middle", "indirect"), ("Outer", "indirect"),
    ]  # fmt: skip
    assert [one["$ref"] for one in shown] == [
        f"{client.base_url}Groups/{people[name]}" for name in ("Inner", "Middle", "Outer")
    ]
    ada = (await client.get(f"/Users/{people['ada']}", params={"attributes": "groups.type"})).json()
    assert [one["type"] for one in ada["groups"]] == ["direct", "direct", "indirect"]
    assert "groups" not in (await client.get(f"/Users/{people['eve']}")).json()
    inner = (await client.get(f"/Groups/{people['Inner']}")).json()
    assert "groups" not in inner


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ('groups.value eq "{Inner}"', "ada bob"),
        ('groups.value eq "{Outer}"', "ada bob"),
        ('groups[value eq "{Outer}" and type eq "direct"]', "ada"),
        ('groups[value eq "{Outer}" and type eq "indirect"]', "bob"),
        ('groups[value eq "{Middle}" and type eq "direct"]', ""),
        ('groups.display eq "MIDDLE"', "ada bob"),
        ('groups.type eq "indirect"', "ada bob"),
        ("groups pr", "ada bob"),
        ('not (groups.value eq "{Middle}")', "eve"),
        ('not (groups[display eq "outer" and type eq "direct"])', "bob eve"),
    ],
)
async def test_filters_on_groups_mean_what_is_shown(
    client: httpx.AsyncClient, people: dict[str, str], condition: str, found: str
) -> None:
    answer = await client.get("/Users", params={"filter": condition.format(**people)})
    assert answer.status_code == 200, answer.text
    assert {one["userName"] for one in answer.json()["Resources"]} == {f"{n}@x.io" for n in found.split()}


async def test_members_of_a_group_are_those_that_it_holds_itself(
    client: httpx.AsyncClient, people: dict[str, str]
) -> None:
    answer = await client.get("/Groups", params={"filter": f'members.value eq "{people["bob"]}"'})
    assert [one["displayName"] for one in answer.json()["Resources"]] == ["Inner"]
    outer = (await client.get(f"/Groups/{people['Outer']}")).json()
    assert {(one["type"], one["value"]) for one in outer["members"]} == {
        ("Group", people["Middle"]), ("User", people["ada"]),
    }  # fmt: skip


async def test_members_leave_by_a_filter(client: httpx.AsyncClient, people: dict[str, str]) -> None:
    async def remove(path: str) -> httpx.Response:
        operations = [{"op": "remove", "path": path}]
        message = {"schemas": [messages.PATCH_OP_SCHEMA], "Operations": operations}
        return await client.patch(f"/Groups/{people['Outer']}", json=message)

    assert (await remove('members[type eq "Group"]')).status_code == 204
    bob = (await client.get(f"/Users/{people['bob']}")).json()
    assert [(one["display"], one["type"]) for one in bob["groups"]] == [
        ("Inner", "direct"), ("Middle", "indirect"),
    ]  # fmt: skip
    refused = await remove('members[$ref co "Users"]')
    assert (refused.status_code, refused.json()["scimType"]) == (400, "invalidFilter")
    refused = await remove('members[type eq "User"].display')
    assert (refused.status_code, refused.json()["scimType"]) == (400, "mutability")
