"""What went wrong elsewhere does not go wrong here: failures that users of other services have reported.

Each test names the failure; the comment under it names where it was reported.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from usher_core.scim import filters, messages, schemas
from usher_core.store import predicates
from usher_core.testing import stacks

ENTERPRISE = "urn:ietf:params:scim:schemas:extension:enterprise:2.0:User"


def patch_op(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [messages.PATCH_OP_SCHEMA], "Operations": list(operations)}


async def create(client: httpx.AsyncClient, endpoint: str = "/Users", **body: Any) -> dict[str, Any]:
    answer = await client.post(endpoint, json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def create_people(client: httpx.AsyncClient, count: int) -> list[str]:
    made = await asyncio.gather(*(create(client, userName=f"p{n}@x.io") for n in range(count)))
    return [one["id"] for one in made]


async def read(client: httpx.AsyncClient, path: str) -> dict[str, Any]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def find(client: httpx.AsyncClient, text: str, endpoint: str = "/Users") -> list[str]:
    answer = await client.get(endpoint, params={"filter": text})
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["Resources"]]


async def members(client: httpx.AsyncClient, group: str) -> set[str]:
    return {member["value"] for member in (await read(client, f"/Groups/{group}")).get("members", [])}


async def patch(client: httpx.AsyncClient, path: str, *operations: dict[str, Any]) -> httpx.Response:
    return await client.patch(path, json=patch_op(*operations))


def named(*values: str) -> list[dict[str, str]]:
    return [{"value": value} for value in values]


def is_conflict(answer: httpx.Response) -> bool:
    body = answer.json()
    return (answer.status_code, body["status"], body["scimType"]) == (409, "409", "uniqueness")


@pytest.mark.parametrize(
    "text", ["userName eq bob@x.io", "userName eq BOB@x.io and externalId eq e-1", "emails eq bob@x.io"]
)
async def test_failure_01_an_unquoted_value_in_a_filter_is_understood(
    client: httpx.AsyncClient, text: str
) -> None:
    # goauthentik/authentik#16455
    made = await create(client, userName="bob@x.io", externalId="e-1", emails=named("bob@x.io"))
    assert await find(client, text) == [made["id"]]


async def test_failure_02_a_put_of_a_living_user_is_never_a_404(client: httpx.AsyncClient) -> None:
    # goauthentik/authentik#16678
    made = await create(client, userName="ada@x.io")
    path = f"/Users/{made['id']}"
    bodies = [{"userName": f"ada{n}@x.io", "active": n % 2 == 0} for n in range(20)]
    answers = await asyncio.gather(*(client.put(path, json=body) for body in bodies))
    assert {answer.status_code for answer in answers} == {200}
    for spelled in (f"{path}?", f"{path}/", f"/Users/{made['id'].upper()}"):
        url = f"{str(client.base_url).rstrip('/')}{spelled}"
        assert (await client.put(url, json=bodies[0])).status_code == 200, spelled


async def test_failure_03_users_and_groups_are_found_by_their_external_id(client: httpx.AsyncClient) -> None:
    # goauthentik/authentik#25987, OctopusDeploy/Issues#9841
    user = await create(client, userName="ada@x.io", externalId="0oA-1", active=False)
    group = await create(client, "/Groups", displayName="G", externalId="0oA-1")
    assert await find(client, 'externalId eq "0oA-1"') == [user["id"]]
    assert await find(client, 'externalId eq "0oA-1"', "/Groups") == [group["id"]]
    assert await find(client, 'externalId eq "0oa-1"') == []


async def test_failure_04_a_409_has_its_scim_type_whatever_the_method(client: httpx.AsyncClient) -> None:
    # getsentry/sentry#117860
    await create(client, userName="taken@x.io")
    made = await create(client, userName="ada@x.io")
    path = f"/Users/{made['id']}"
    assert is_conflict(await client.post("/Users", json={"userName": "taken@x.io"}))
    assert is_conflict(await client.put(path, json={"userName": "Taken@x.io"}))
    rename = {"op": "replace", "path": "userName", "value": "TAKEN@x.io"}
    assert is_conflict(await patch(client, path, rename))
    assert is_conflict(await patch(client, path, {"op": "replace", "value": {"userName": "taken@x.io"}}))


async def test_failure_05_an_inactive_user_is_revived_when_created_again(client: httpx.AsyncClient) -> None:
    # better-auth/better-auth#11111: Okta creates again whom it has deactivated.
    body = {"userName": "ada@x.io", "externalId": "00u1", "title": "Countess"}
    made = await create(client, **body)
    group = await create(client, "/Groups", displayName="G", members=named(made["id"]))
    await patch(client, f"/Users/{made['id']}", {"op": "replace", "value": {"active": False}})
    answer = await client.post("/Users", json={"userName": "ADA@x.io", "externalId": "00u1", "active": True})
    assert answer.status_code == 201, answer.text
    revived = answer.json()
    assert (revived["id"], revived["active"], revived["userName"]) == (made["id"], True, "ADA@x.io")
    assert "title" not in revived
    assert "groups" not in revived
    # Who comes back starts without the access of before.
    assert await members(client, group["id"]) == set()
    assert await find(client, 'userName eq "ada@x.io"') == [made["id"]]
    assert (await client.get("/Users")).json()["totalResults"] == 1


@pytest.mark.parametrize(
    ("before", "again"),
    [
        pytest.param({"externalId": "00u1", "active": True}, {"externalId": "00u1"}, id="active"),
        pytest.param(
            {"externalId": "00u1", "active": False}, {"externalId": "00u2"}, id="another externalId"
        ),
        pytest.param({"externalId": "00u1", "active": False}, {"externalId": "00U1"}, id="in another case"),
        pytest.param({"externalId": "00u1", "active": False}, {}, id="none given"),
        pytest.param({"active": False}, {"externalId": "00u1"}, id="none known"),
        pytest.param({"active": False}, {}, id="none at all"),
    ],
)
async def test_failure_05_nobody_else_is_revived(
    client: httpx.AsyncClient, before: dict[str, Any], again: dict[str, Any]
) -> None:
    made = await create(client, userName="ada@x.io", **before)
    assert is_conflict(await client.post("/Users", json={"userName": "ada@x.io"} | again))
    assert await read(client, f"/Users/{made['id']}") == made


async def test_failure_06_a_409_has_changed_nothing(client: httpx.AsyncClient) -> None:
    # lightdash/lightdash#22402
    taken = await create(client, userName="taken@x.io")
    made = await create(client, userName="ada@x.io", title="Countess", emails=named("ada@x.io"))
    path = f"/Users/{made['id']}"
    other = {"userName": "taken@x.io", "title": "Duchess", "active": False}
    assert is_conflict(await client.put(path, json=other))
    steps = [{"op": "replace", "path": key, "value": value} for key, value in reversed(other.items())]
    assert is_conflict(await patch(client, path, *steps))
    assert is_conflict(await client.post("/Users", json=other | {"externalId": "new"}))
    assert await read(client, path) == made
    assert await read(client, f"/Users/{taken['id']}") == taken
    assert await find(client, 'externalId eq "new"') == []
    # The name that the refused changes would have given up is still held.
    assert is_conflict(await client.post("/Users", json={"userName": "ada@x.io"}))
    assert (await client.get("/Users")).json()["totalResults"] == 2


@pytest.mark.parametrize("nobody", [str(uuid.UUID(int=7)), "no-id-of-ours"])
async def test_failure_07_an_unknown_member_is_a_400_that_names_it(
    client: httpx.AsyncClient, nobody: str
) -> None:
    # lightdash/lightdash#24458: 500, and the client tried for ever.
    [ada] = await create_people(client, 1)
    group = await create(client, "/Groups", displayName="G")
    path = f"/Groups/{group['id']}"
    answers = [
        await patch(
            client,
            path,
            {"op": "replace", "path": "displayName", "value": "H"},
            {"op": "add", "path": "members", "value": named(ada, nobody)},
        ),
        await client.put(path, json={"displayName": "H", "members": named(ada, nobody)}),
        await client.post("/Groups", json={"displayName": "I", "members": named(ada, nobody)}),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue")
        assert nobody in answer.json()["detail"]
    assert await read(client, path) == group
    assert (await client.get("/Groups")).json()["totalResults"] == 1


async def test_failure_08_no_member_is_lost_under_concurrent_patches(client: httpx.AsyncClient) -> None:
    # fleetdm/fleet#50724, thomas-mrgn/scimmy#79, Infisical/infisical#6471: Entra sends one PATCH a member.
    people = await create_people(client, 75)
    group = await create(client, "/Groups", displayName="G", members=named(*people[50:]))
    path = f"/Groups/{group['id']}"
    added = [{"op": "Add", "path": "members", "value": named(one)} for one in people[:50]]
    answers = await asyncio.gather(*(patch(client, path, operation) for operation in added))
    assert {answer.status_code for answer in answers} == {204}
    assert await members(client, group["id"]) == set(people)
    removed = [{"op": "Remove", "path": f'members[value eq "{one}"]'} for one in people[50:]]
    mixed = [operation for pair in zip(removed, added, strict=False) for operation in pair]
    answers = await asyncio.gather(*(patch(client, path, operation) for operation in mixed))
    assert {answer.status_code for answer in answers} == {204}
    assert await members(client, group["id"]) == set(people[:50])


@pytest.mark.parametrize(
    ("sent", "held"),
    [("False", False), ("True", True), ("false", False), ("TRUE", True), ("fALSE", False), (False, False)],
)
async def test_failure_09_a_boolean_in_a_string_is_one(
    client: httpx.AsyncClient, sent: str | bool, held: bool
) -> None:
    # thomas-mrgn/scimmy#51
    made = await create(client, userName="a@x.io", active=sent)
    assert made["active"] is held
    path = f"/Users/{made['id']}"
    await patch(client, path, {"op": "replace", "path": "active", "value": not held})
    for operation in ({"path": "active", "value": sent}, {"value": {"active": sent}}):
        answer = await patch(client, path, {"op": "Replace"} | operation)
        assert answer.json()["active"] is held
    assert (await client.put(path, json={"userName": "a@x.io", "active": sent})).json()["active"] is held


async def test_failure_10_a_patch_of_256_members_adds_them_all(client: httpx.AsyncClient, crowd: Any) -> None:
    # FusionAuth/fusionauth-issues#2784: more than 100 were cut off; Okta sends up to 256.
    async with httpx.AsyncClient(
        base_url=crowd.access.base_url, headers=crowd.access.headers, timeout=5
    ) as crowded:
        group = await create(crowded, "/Groups", displayName="256")
        wanted = crowd.users[:256]
        operation = {"op": "add", "path": "members", "value": named(*wanted)}
        assert (await patch(crowded, f"/Groups/{group['id']}", operation)).status_code == 204
        assert await members(crowded, group["id"]) == set(wanted)


async def test_failure_11_groups_of_3500_members_are_listed(crowd: Any) -> None:
    # FusionAuth/fusionauth-issues#3307: 500 on list.
    async with httpx.AsyncClient(
        base_url=crowd.access.base_url, headers=crowd.access.headers, timeout=5
    ) as crowded:
        wanted = crowd.users[:3500]
        body = {"displayName": "3500", "members": named(*wanted)}
        made = await create(crowded, "/Groups", **body)
        query = {"filter": 'displayName eq "3500"'}
        [listed] = (await crowded.get("/Groups", params=query)).json()["Resources"]
        assert {member["value"] for member in listed["members"]} == set(wanted)
        query["excludedAttributes"] = "members"
        [listed] = (await crowded.get("/Groups", params=query)).json()["Resources"]
        assert "members" not in listed
        replaced = await crowded.put(f"/Groups/{made['id']}", json=body | {"members": named(*wanted[1:])})
        assert len(replaced.json()["members"]) == 3499


async def test_failure_12_replacing_the_members_by_none_empties_the_group(client: httpx.AsyncClient) -> None:
    # Captain-P-Goldfish/SCIM-SDK#757: 400.
    people = await create_people(client, 2)
    group = await create(client, "/Groups", displayName="G", members=named(*people))
    path = f"/Groups/{group['id']}"
    assert (await patch(client, path, {"op": "replace", "path": "members", "value": []})).status_code == 204
    assert await members(client, group["id"]) == set()


@pytest.mark.parametrize(
    ("value", "held"),
    [
        pytest.param("271", {"value": "271"}, id="a string"),
        pytest.param({"value": "271"}, {"value": "271"}, id="an object"),
        pytest.param([{"value": "9"}], {"value": "9"}, id="an array"),
        pytest.param("", None, id="an empty string removes"),
    ],
)
async def test_failure_13_a_manager_is_read_in_every_form(
    client: httpx.AsyncClient, value: Any, held: Any
) -> None:
    # Captain-P-Goldfish/SCIM-SDK#541
    for path in (f"{ENTERPRISE}:manager", "manager"):
        made = await create(
            client, userName=f"{path[-20:]}@x.io", **{ENTERPRISE: {"manager": {"value": "1"}}}
        )
        answer = await patch(client, f"/Users/{made['id']}", {"op": "Add", "path": path, "value": value})
        assert answer.status_code == 200, answer.text
        assert answer.json().get(ENTERPRISE, {}).get("manager") == held
    again = await create(client, userName="b@x.io", **{ENTERPRISE: {"manager": value}})
    assert again.get(ENTERPRISE, {}).get("manager") == held


async def test_failure_14_roles_in_a_json_string_are_roles(client: httpx.AsyncClient) -> None:
    # Captain-P-Goldfish/SCIM-SDK#516: Entra sends app roles so.
    packed = '{"id":"r","value":"Admin","displayName":"Administrator"}'
    made = await create(client, userName="a@x.io", roles=[{"value": packed}])
    wanted = [("Admin", "Administrator")]
    assert [(one["value"], one["display"]) for one in made["roles"]] == wanted
    other = await create(client, userName="b@x.io")
    operation = {"op": "Add", "path": "roles", "value": [{"value": packed}]}
    answer = await patch(client, f"/Users/{other['id']}", operation)
    assert [(one["value"], one["display"]) for one in answer.json()["roles"]] == wanted


async def test_failure_15_a_value_path_on_a_missing_element_makes_it(client: httpx.AsyncClient) -> None:
    # ssoready/ssoready#228
    made = await create(client, userName="a@x.io", emails=[{"type": "home", "value": "h@x.io"}])
    answer = await patch(
        client,
        f"/Users/{made['id']}",
        {"op": "Replace", "path": 'emails[type eq "work"].value', "value": "w@x.io"},
        {"op": "Add", "path": 'addresses[type eq "work"].locality', "value": "Hampton"},
        {"op": "Add", "path": 'addresses[type eq "work"].formatted', "value": "18/2"},
    )
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert {"type": "work", "value": "w@x.io"} in changed["emails"]
    assert {"type": "home", "value": "h@x.io"} in changed["emails"]
    assert changed["addresses"] == [{"type": "work", "locality": "Hampton", "formatted": "18/2"}]


@pytest.mark.parametrize("value", [[], [{}], [{"value": None}], [{"value": ""}], [3], "", {"display": "b"}])
async def test_failure_16_a_remove_of_nobody_in_particular_clears_no_group(
    client: httpx.AsyncClient, value: Any
) -> None:
    # ssoready/ssoready#182
    people = await create_people(client, 3)
    group = await create(client, "/Groups", displayName="G", members=named(*people))
    path = f"/Groups/{group['id']}"
    one = {"op": "Remove", "path": "members", "value": named(people[0])}
    assert (await patch(client, path, one)).status_code == 204
    assert await members(client, group["id"]) == set(people[1:])
    answer = await patch(client, path, {"op": "Remove", "path": "members", "value": value})
    assert answer.status_code < 500
    assert await members(client, group["id"]) == set(people[1:])


@pytest.mark.parametrize("spell", [str.lower, str.upper, str.title])
async def test_failure_17_operations_are_read_in_any_case(client: httpx.AsyncClient, spell: Any) -> None:
    # langwatch/langwatch#6972
    made = await create(client, userName="a@x.io", nickName="A")
    answer = await patch(
        client,
        f"/Users/{made['id']}",
        {"op": spell("add"), "path": "title", "value": "T"},
        {"op": spell("replace"), "path": "displayName", "value": "D"},
        {"op": spell("remove"), "path": "nickName"},
    )
    assert answer.status_code == 200, answer.text
    changed = answer.json()
    assert (changed["title"], changed["displayName"], changed.get("nickName")) == ("T", "D", None)


async def test_failure_18_user_names_know_no_case_and_are_echoed_as_sent(client: httpx.AsyncClient) -> None:
    # zitadel/zitadel#9257
    made = await create(client, userName="Ada.Lovelace@X.io")
    assert made["userName"] == "Ada.Lovelace@X.io"
    assert await find(client, 'userName eq "aDA.lovelace@x.IO"') == [made["id"]]
    assert is_conflict(await client.post("/Users", json={"userName": "ada.lovelace@x.io"}))
    recased = await client.put(f"/Users/{made['id']}", json={"userName": "ada.lovelace@x.io"})
    assert (recased.status_code, recased.json()["userName"]) == (200, "ada.lovelace@x.io")


async def test_failure_19_a_name_changed_at_okta_is_a_new_user_of_the_same_external_id(
    client: httpx.AsyncClient,
) -> None:
    # growthbook/growthbook#1680
    old = await create(client, userName="ada.byron@x.io", externalId="00u1")
    await patch(client, f"/Users/{old['id']}", {"op": "replace", "value": {"active": False}})
    new = await create(client, userName="ada.king@x.io", externalId="00u1", active=True)
    assert new["id"] != old["id"]
    assert new["active"] is True
    assert await find(client, 'externalId eq "00u1"') == [old["id"], new["id"]]
    assert (await read(client, f"/Users/{old['id']}"))["active"] is False


async def test_failure_20_adding_a_member_again_is_a_success_that_changes_nothing(
    client: httpx.AsyncClient,
) -> None:
    # simpleidserver/SimpleIdServer#245: 409.
    people = await create_people(client, 2)
    group = await create(client, "/Groups", displayName="G", members=named(*people))
    path = f"/Groups/{group['id']}"
    for operation in (
        {"op": "add", "path": "members", "value": named(people[0])},
        {"op": "add", "path": "members", "value": named(people[0], people[0])},
        {"op": "add", "value": {"members": named(*people)}},
        {"op": "remove", "path": "members", "value": named(group["id"])},
        {"op": "remove", "path": f'members[value eq "{uuid.UUID(int=3)}"]'},
    ):
        assert (await patch(client, path, operation)).status_code == 204
    assert await members(client, group["id"]) == set(people)
    assert (await read(client, path))["meta"] == group["meta"]


async def test_failure_21_what_was_answered_is_stored(client: httpx.AsyncClient) -> None:
    # gravitational/teleport#67372: 200, and nothing was kept.
    user = {"userName": "a@x.io", "name": {"givenName": "A"}, "emails": named("a@x.io"), "title": "T",
            "locale": "en", "timezone": "Europe/Berlin", ENTERPRISE: {"department": "D"}}  # fmt: skip
    made = await create(client, **user)
    path = f"/Users/{made['id']}"
    for key, value in user.items():
        assert made[key] == value, key
    assert await read(client, path) == made
    replaced = (await client.put(path, json=user | {"title": "U", "nickName": "N"})).json()
    assert (replaced["title"], replaced["nickName"]) == ("U", "N")
    assert await read(client, path) == replaced
    operation = {"op": "replace", "value": {"title": "V", "name.familyName": "F"}}
    patched = (await patch(client, path, operation)).json()
    assert (patched["title"], patched["name"]) == ("V", {"givenName": "A", "familyName": "F"})
    assert await read(client, path) == patched
    group = await create(client, "/Groups", displayName="G", externalId="g", members=named(made["id"]))
    assert await read(client, f"/Groups/{group['id']}") == group


def touched(node: dict[str, Any]) -> float:
    """Count the rows that a node of a plan has looked at."""
    rows = node["Actual Rows"] + node.get("Rows Removed by Filter", 0)
    return float(rows * node["Actual Loops"])


def plans(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", []):
        yield from plans(inner)


LOOKUPS = [
    'userName eq "USER-8999@crowd.example"',
    'id eq "{id}"',
    'externalId eq "ext-8999" and userName eq "user-8999@crowd.example"',
    'userName eq "nobody@crowd.example"',
    'externalId eq "ext-8999"',
    'displayName eq "user 8999"',
    'emails.value eq "user-8999@crowd.example"',
    'emails eq "user-8999@crowd.example"',
]
STATEMENTS = (
    "SELECT r.id FROM resources r WHERE r.tenant = %s AND r.type = %s AND {} ORDER BY r.id LIMIT 100",
    "SELECT count(*) FROM resources r WHERE r.tenant = %s AND r.type = %s AND {}",
)


# The planner knows nothing yet of what was imported a moment ago. All of that comes first, for ANALYZE stays:
# of two decorators the lower one changes last.
@pytest.mark.parametrize("text", LOOKUPS)
@pytest.mark.parametrize("analysed", [False, True], ids=["a moment after the import", "analysed"])
async def test_failure_22_looking_one_up_among_9000_users_reads_a_handful_of_rows(
    stack: stacks.Stack, crowd: Any, text: str, analysed: bool
) -> None:
    # Captain-P-Goldfish/scim-for-keycloak#78: a scan for each look-up, and a time-out.
    wanted = crowd.users[8999]
    text = text.replace("{id}", wanted)
    async with httpx.AsyncClient(
        base_url=crowd.access.base_url, headers=crowd.access.headers, timeout=5
    ) as crowded:
        assert await find(crowded, text) == ([] if "nobody" in text else [wanted])
    kind = schemas.default().by_name("User")
    condition = predicates.compile_filter(crowd.access.tenant, kind, filters.parse(text, kind))
    parameters = (crowd.access.tenant, "User", *condition.values)
    with psycopg.connect(crowd.owner_url, autocommit=True) as owner:
        if analysed:
            owner.execute("ANALYZE resources, unique_values, lookup_values")
    for statement in STATEMENTS:
        with psycopg.connect(stack.database_url) as app:
            app.execute("SELECT set_config('usher.tenant', %s, true)", (str(crowd.access.tenant),))
            explain = f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.format(condition.text)}"
            row = app.execute(explain.encode(), parameters).fetchone()
        assert row is not None
        nodes = list(plans(row[0][0]["Plan"]))
        told = [(node["Node Type"], node.get("Index Name"), touched(node)) for node in nodes]
        assert not [node for node in nodes if node["Node Type"] == "Seq Scan"], told
        assert sum(map(touched, nodes)) <= 20, told
