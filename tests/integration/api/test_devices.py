"""The example's resource type, /Devices, over HTTP: its schema is obeyed like ours, without more code."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from usher_core import ids
from usher_core.scim import filters, registries
from usher_core.store import databases, predicates
from usher_core.tenants import manifests, reconciliations, vaults
from usher_core.testing import stacks

EXAMPLE = Path(__file__).parents[3] / "examples" / "devices"
DEVICE = "urn:example:scim:schemas:1.0:Device"
BADGE = "urn:example:scim:schemas:extension:badge:1.0:User"
TENANT = manifests.tenant_id("identity", "devices")
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"

_numbers = itertools.count(1)


@pytest.fixture
async def devices(
    stack: stacks.Stack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the example's tenant, which is there from the first test on."""
    vault = vaults.FileVault(tmp_path_factory.getbasetemp() / "devices-secrets")
    [applied] = await reconciliations.apply_bundle(
        manifests.load(EXAMPLE),
        database_url=stack.database_url,
        redis_url=stack.redis_url,
        vault=vault,
        base_url=stack.base_url,
    )
    assert applied.ready, applied.message
    headers = {"Authorization": f"Bearer {applied.token}"}
    async with httpx.AsyncClient(base_url=stack.base_url, headers=headers, timeout=40) as opened:
        yield opened


def body(**more: Any) -> dict[str, Any]:
    return {"displayName": "Ada's laptop", "serialNumber": f"SN-{next(_numbers)}"} | more


async def make(client: httpx.AsyncClient, **more: Any) -> dict[str, Any]:
    answer = await client.post("/Devices", json=body(**more))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def patch(*operations: dict[str, Any]) -> dict[str, Any]:
    return {"schemas": [PATCH], "Operations": list(operations)}


async def found(client: httpx.AsyncClient, filter_: str, where: str = "/Devices", **more: Any) -> list[str]:
    answer = await client.get(where, params={"filter": filter_, **more})
    assert answer.status_code == 200, answer.text
    return [
        one["displayName"] if "displayName" in one else one["userName"] for one in answer.json()["Resources"]
    ]


async def test_discovery_shows_them_to_their_tenant_alone(
    devices: httpx.AsyncClient, client: httpx.AsyncClient
) -> None:
    kinds = (await devices.get("/ResourceTypes")).json()["Resources"]
    assert [kind["endpoint"] for kind in kinds] == ["/Users", "/Groups", "/Devices"]
    assert (await devices.get("/ResourceTypes/Device")).json()["schema"] == DEVICE
    schema = (await devices.get(f"/Schemas/{DEVICE}")).json()
    assert {one["name"] for one in schema["attributes"]} >= {"serialNumber", "owner", "interfaces"}
    assert (await devices.get("/Devices")).json()["totalResults"] == 0
    for url in ("/Devices", "/ResourceTypes/Device", f"/Schemas/{DEVICE}", f"/Devices/{uuid.uuid4()}"):
        assert (await client.get(url)).status_code == 404
    assert (await client.post("/Devices", json=body())).status_code == 404


async def test_a_device_is_created_read_replaced_patched_and_deleted(devices: httpx.AsyncClient) -> None:
    made = await make(devices, active="True", memory=16, labels=["a", "b"])
    assert made["schemas"] == [DEVICE]
    assert made["meta"]["resourceType"] == "Device"
    assert (made["active"], made["memory"]) == (True, 16)
    url = f"/Devices/{made['id']}"
    assert made["meta"]["location"].endswith(url)
    read = await devices.get(url)
    assert (read.json(), read.headers["ETag"]) == (made, 'W/"1"')
    assert (await devices.get(url, headers={"If-None-Match": 'W/"1"'})).status_code == 304
    put = await devices.put(url, json=body(serialNumber=made["serialNumber"], kind="phone"))
    assert (put.status_code, put.json()["kind"], "memory" in put.json()) == (200, "phone", False)
    patched = await devices.patch(
        url,
        json=patch(
            {"op": "add", "path": f"{DEVICE}:memory", "value": 32},
            {"op": "add", "path": 'interfaces[type eq "wired"].value', "value": "00:11"},
            {"op": "replace", "value": {"displayName": "Grace's"}},
        ),
    )
    assert patched.status_code == 200
    shown = patched.json()
    assert (shown["memory"], shown["displayName"]) == (32, "Grace's")
    assert shown["interfaces"] == [{"type": "wired", "value": "00:11"}]
    stale = await devices.patch(
        url, json=patch({"op": "remove", "path": "memory"}), headers={"If-Match": 'W/"1"'}
    )
    assert stale.status_code == 412
    assert (await devices.delete(url)).status_code == 204
    assert (await devices.get(url)).status_code == 404


@pytest.mark.parametrize(
    ("given", "told"),
    [
        pytest.param({"displayName": None}, "displayName is required", id="required"),
        pytest.param({"serialNumber": " "}, "serialNumber is required", id="required and blank"),
        pytest.param({"memory": "16"}, "memory must be an integer", id="integer"),
        pytest.param({"weight": "heavy"}, "weight must be", id="decimal"),
        pytest.param({"purchased": "yesterday"}, "purchased must be a date", id="moment"),
        pytest.param({"active": "perhaps"}, "active must be true or false", id="boolean"),
        pytest.param({"interfaces": [{"type": "wired"}]}, "interfaces.value is required", id="sub-attribute"),
        pytest.param(
            {"owner": "https://h/Groups/9"}, "owner must refer to a resource of type User", id="type"
        ),
        pytest.param({"manual": "manual.pdf"}, "manual must be an absolute URI", id="external"),
        pytest.param({"unlockCode": 7}, "unlockCode must be a string", id="never kept, but checked"),
    ],
)
async def test_what_the_schema_does_not_allow_is_refused(
    devices: httpx.AsyncClient, given: dict[str, Any], told: str
) -> None:
    answer = await devices.post("/Devices", json=body(**given))
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue")
    assert told in answer.json()["detail"]


async def test_unique_values_are_unique_by_the_case_that_the_schema_says(devices: httpx.AsyncClient) -> None:
    first = await make(devices, serialNumber="Case-1", assetTag="Tag-É")
    other = await make(devices, serialNumber="CASE-1", assetTag="other")
    for clash, path in (
        ({"serialNumber": "Case-1"}, "serialNumber"),
        ({"assetTag": "tag-e\u0301"}, "assetTag"),
    ):
        answer = await devices.post("/Devices", json=body(**clash))
        assert (answer.status_code, answer.json()["scimType"]) == (409, "uniqueness")
        assert answer.json()["detail"] == f"The value of {path} is taken by another Device."
    clash_by_patch = await devices.patch(
        f"/Devices/{other['id']}", json=patch({"op": "replace", "path": "assetTag", "value": "TAG-é"})
    )
    assert clash_by_patch.status_code == 409
    await devices.delete(f"/Devices/{first['id']}")
    await make(devices, serialNumber="Case-1", assetTag="tag-é")


async def test_what_is_immutable_stays(devices: httpx.AsyncClient) -> None:
    made = await make(devices)
    url = f"/Devices/{made['id']}"
    for answer in (
        await devices.put(url, json=body()),
        await devices.patch(url, json=patch({"op": "replace", "path": "serialNumber", "value": "x"})),
    ):
        assert (answer.status_code, answer.json()["scimType"]) == (400, "mutability")
    assert (await devices.put(url, json=made)).status_code == 200


async def test_what_is_returned_follows_the_schema(devices: httpx.AsyncClient, stack: stacks.Stack) -> None:
    made = await make(devices, notes="on request", unlockCode="1234")
    assert "notes" not in made
    assert "unlockCode" not in made
    url = f"/Devices/{made['id']}"
    asked = (await devices.get(url, params={"attributes": "notes,unlockCode,displayName"})).json()
    assert set(asked) == {"schemas", "id", "notes", "displayName"}
    brief = (await devices.get(url, params={"excludedAttributes": f"{DEVICE}:displayName"})).json()
    assert "displayName" not in brief
    async with databases.Database(stack.database_url) as database:
        [[(document,)]] = await database.fetch(
            TENANT, ("SELECT document FROM resources WHERE tenant = %s AND id = %s", (TENANT, made["id"]))
        )
    assert "1234" not in str(document)
    answer = await devices.get("/Devices", params={"filter": 'unlockCode eq "1234"'})
    assert answer.json()["scimType"] == "invalidFilter"


async def test_filters_and_sorts_know_every_attribute(devices: httpx.AsyncClient) -> None:
    tag = uuid.uuid4().hex
    for name, memory, weight, bought, labels in (
        ("one", 8, 1.5, "2020-01-01T00:00:00Z", ["red", "Blue"]),
        ("two", 16, 0.5, "2021-01-01T00:00:00+02:00", ["blue"]),
        ("three", 32, 2, "2022-01-01T00:00:00Z", []),
    ):
        await make(
            devices,
            displayName=name,
            kind=tag,
            memory=memory,
            weight=weight,
            purchased=bought,
            labels=labels,
            active=name != "two",
            interfaces=[{"value": f"00:{memory}", "type": "wired", "primary": True}],
            owner=f"https://h/Users/{name}",
        )
    for filter_, names in (
        ("memory gt 8", {"two", "three"}),
        ("weight lt 1", {"two"}),
        ('purchased lt "2020-12-31T23:00:00Z"', {"one", "two"}),
        ('labels eq "blue"', {"two"}),
        ('labels co "lue"', {"one", "two"}),
        ("active eq false", {"two"}),
        ("labels pr", {"one", "two"}),
        ('interfaces[type eq "wired" and value eq "00:8"]', {"one"}),
        ('owner ew "/three"', {"three"}),
        (f'{DEVICE}:memory ge 16 and not (displayName eq "THREE")', {"two"}),
        (f'{DEVICE.upper()}:interfaces.value sw "00:3"', {"three"}),
        (f'meta.resourceType eq "Device" and schemas eq "{DEVICE}" and memory eq 32', {"three"}),
    ):
        assert set(await found(devices, f'kind eq "{tag}" and {filter_}')) == names, filter_
    for sort, names in (
        ("memory", ["one", "two", "three"]),
        ("weight", ["two", "one", "three"]),
        ("purchased", ["one", "two", "three"]),
        (f"{DEVICE}:interfaces.value", ["two", "three", "one"]),
    ):
        assert await found(devices, f'kind eq "{tag}"', sortBy=sort) == names, sort
    descending = await found(devices, f'kind eq "{tag}"', sortBy="memory", sortOrder="descending", count=2)
    assert descending == ["three", "two"]


async def test_devices_are_found_at_the_root_and_by_search(devices: httpx.AsyncClient) -> None:
    name = f"root-{uuid.uuid4().hex}"
    await make(devices, displayName=name, memory=64)
    await devices.post("/Groups", json={"displayName": name})
    assert await found(devices, f'displayName eq "{name}"', "/") == [name, name]
    assert await found(devices, f'displayName eq "{name}" and memory eq 64', "/") == [name]
    assert await found(devices, f'displayName eq "{name}" and {DEVICE}:memory pr', "/") == [name]
    message = {
        "schemas": ["urn:ietf:params:scim:api:messages:2.0:SearchRequest"],
        "attributes": ["memory"],
        "filter": f'displayName eq "{name}"',
        "sortBy": "memory",
    }
    for where, total in (("/.search", 2), ("/Devices/.search", 1)):
        answer = (await devices.post(where, json=message)).json()
        assert answer["totalResults"] == total
        assert answer["Resources"][0]["memory"] == 64
    cursor = (await devices.get("/Devices", params={"cursor": "", "count": 1})).json()
    assert "nextCursor" in cursor


def test_a_unique_attribute_is_looked_up_in_an_index() -> None:
    texts = manifests.load(EXAMPLE).config_maps["identity", "devices-scim-schemas"]
    registry = registries.build(registries.parse(texts), 1)
    for name, text in (
        ("Device", 'serialNumber eq "x"'),
        ("Device", f'{DEVICE}:assetTag eq "x"'),
        ("User", f"{BADGE}:badgeNumber eq 7"),
    ):
        kind = registry.by_name(name)
        condition = predicates.compile_filter(TENANT, kind, filters.parse(text, kind))
        assert "unique_values" in condition.text, text


async def test_a_badge_of_a_user_is_unique_found_and_patched(devices: httpx.AsyncClient) -> None:
    number = next(_numbers) + 1000
    user = {"userName": f"{uuid.uuid4().hex}@example.com", BADGE: {"badgeNumber": number}}
    made = (await devices.post("/Users", json=user)).json()
    assert made[BADGE] == {"badgeNumber": number}
    assert BADGE in made["schemas"]
    again = await devices.post("/Users", json=user | {"userName": f"{uuid.uuid4().hex}@example.com"})
    assert (again.status_code, again.json()["detail"]) == (
        409,
        f"The value of {BADGE}:badgeNumber is taken by another User.",
    )
    for filter_ in (f"{BADGE}:badgeNumber eq {number}", f"badgeNumber eq {number}"):
        assert await found(devices, filter_, "/Users") == [user["userName"]]
    patched = await devices.patch(
        f"/Users/{made['id']}", json=patch({"op": "add", "path": f"{BADGE}:building", "value": "Dragon"})
    )
    assert patched.json()[BADGE] == {"badgeNumber": number, "building": "Dragon"}
    await devices.patch(f"/Users/{made['id']}", json=patch({"op": "remove", "path": BADGE}))
    assert BADGE not in (await devices.get(f"/Users/{made['id']}")).json()


async def test_a_device_is_no_member_of_a_group(devices: httpx.AsyncClient) -> None:
    made = await make(devices)
    group = (await devices.post("/Groups", json={"displayName": "G"})).json()
    operation = {"op": "add", "path": "members", "value": [{"value": made["id"]}]}
    answer = await devices.patch(f"/Groups/{group['id']}", json=patch(operation))
    assert (answer.status_code, answer.json()["scimType"]) == (400, "invalidValue")
    assert f"{made['id']} is a Device" in answer.json()["detail"]


async def test_no_other_tenant_reads_a_device(
    devices: httpx.AsyncClient, client: httpx.AsyncClient, stack: stacks.Stack
) -> None:
    made = await make(devices)
    assert (await client.get(f"/Devices/{made['id']}")).status_code == 404
    async with databases.Database(stack.database_url) as database:
        stranger = ids.TenantId(uuid.uuid4())
        [rows] = await database.fetch(stranger, ("SELECT 1 FROM resources WHERE id = %s", (made["id"],)))
    assert rows == []
