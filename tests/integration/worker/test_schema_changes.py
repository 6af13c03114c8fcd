"""A tenant's schemas change in their turn: checked against what is stored, then accepted or refused."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from usher_core import ids, settings
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import appends, connections
from usher_core.scim import documents, filters, patches, schemas
from usher_core.store import databases, inboxes, predicates, resources, schema_checks
from usher_core.tenants import definitions, manifests, reconciliations, vaults
from usher_core.tenants.conditions import Condition
from usher_worker import drains, processes, promises, schema_changes, sweeps

TENANT = manifests.tenant_id("identity", "acme")
DEVICE = "urn:example:scim:schemas:1.0:Device"
NOTHING = resources.Relations(groups=False, members=False)
KIND = {"name": "Device", "endpoint": "/Devices", "schema": DEVICE}


def device(**attributes: dict[str, Any]) -> list[dict[str, Any]]:
    """Define devices with a name and these attributes."""
    listed = [{"name": "name"}, *({"name": name} | more for name, more in attributes.items())]
    return [{"id": DEVICE, "attributes": listed}, KIND]


@dataclasses.dataclass
class World:
    """One tenant with a worker that runs when the test wants it to."""

    database: databases.Database
    process: processes.Process
    urls: DatabaseUrls
    redis_url: str
    vault: vaults.FileVault

    async def ask(self, wanted: list[dict[str, Any]] | None, **more: Any) -> Condition:
        """Reconcile a manifest that wants these schemas; `None` names no ConfigMap."""
        provisioning = {} if wanted is None else {"schemasConfigMapRef": {"name": "schemas"}}
        manifest = manifests.parse(
            {
                "apiVersion": "usher.dev/v1alpha1",
                "kind": "ScimTenant",
                "metadata": {"name": "acme", "namespace": "identity"},
                "spec": {
                    "tokens": [{"name": "okta", "secretRef": {"name": "okta"}}],
                    "sso": {"mode": "Optional"},
                    "provisioning": provisioning,
                },
            }
        )
        texts = {} if wanted is None else {("identity", "schemas"): {"all.json": json.dumps(wanted).encode()}}
        channel = definitions.Channel("operator", more.get("redis_url", self.redis_url))
        done = await reconciliations.reconcile(
            manifest,
            manifests.Bundle((), {}, texts),
            self.vault,
            self.database,
            None,
            channel,
            datetime.now(UTC),
        )
        return done.condition("SchemasReady")

    async def settle(self, wanted: list[dict[str, Any]] | None) -> Condition:
        """Ask, let the worker work, and look."""
        await self.ask(wanted)
        self.drain()
        return await self.ask(wanted)

    def drain(self) -> str:
        return drains.Drain(self.process, TENANT).run()

    @property
    def registry(self) -> schemas.Registry:
        return self.process.store.registry(TENANT)

    async def send(
        self,
        operation: records.Operation,
        body: Any,
        target: ids.ResourceId | None = None,
        registry: schemas.Registry | None = None,
        **more: Any,
    ) -> ids.ResourceId:
        """Queue a change, as an api with this registry reads it."""
        registry = registry or self.registry
        kind = registry.by_name("Device")
        if operation == "create":
            body = documents.normalise(kind, body)
        elif operation == "patch":
            body = patches.dump(patches.parse({"Operations": body}, kind))
        target = target or ids.ResourceId(ids.new_uuid())
        change = records.Change(
            ids.ChangeId(ids.new_uuid()),
            records.now(),
            operation,
            "Device",
            target,
            body,
            None,
            "t",
            "r",
            "",
            schemas_version=registry.version,
            **more,
        )
        async with connections.connect_async(self.redis_url) as client:
            appender = appends.Appender(client, lambda: inboxes.is_empty(self.database), oldest=60)
            await appender.append(TENANT, appends.Item(change.encode()))
        return target

    async def make(self, *bodies: dict[str, Any]) -> list[ids.ResourceId]:
        made = [await self.send("create", body) for body in bodies]
        self.drain()
        return made

    def rows(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.urls.owner) as owner:
            return owner.execute(statement.encode(), values).fetchall()

    def log(self) -> list[tuple[str, int, str]]:
        return self.rows("SELECT operation, status, token_id FROM change_log ORDER BY accepted_at")

    def spaces(self) -> dict[str, list[str]]:
        """The values that are unique among devices, by their space."""
        found: dict[str, list[str]] = {}
        for path, folded in self.rows(
            "SELECT path, folded FROM unique_values WHERE type = 'Device' ORDER BY 1, 2"
        ):
            found.setdefault(path, []).append(folded)
        return found

    async def find(self, text: str) -> list[str]:
        kind = self.registry.by_name("Device")
        condition = predicates.over(TENANT, {kind: filters.parse(text, kind)})
        query = resources.Query(("Device",), condition, True, NOTHING)
        page = await resources.page(self.database, TENANT, query, offset=0, limit=100)
        return [one.stored.document["name"] for one in page.resources]


@pytest.fixture
async def world(
    database: databases.Database, database_urls: DatabaseUrls, redis_url: str, tmp_path: Path
) -> AsyncIterator[World]:
    config = settings.Settings(
        database_url=database_urls.app, redis_url=redis_url, drain_linger=0.0, alone_attempts=2
    )
    process = processes.Process(config)
    yield World(database, process, database_urls, redis_url, vaults.FileVault(tmp_path / "secrets"))
    process.close()


async def test_a_tenant_gets_its_schemas_in_their_turn(world: World) -> None:
    asked = await world.ask(device())
    assert (asked.status, asked.reason) == ("Unknown", "Checking")
    assert world.registry is schemas.default()
    world.drain()
    told = await world.ask(device())
    assert (told.status, told.reason) == ("True", "Accepted")
    assert "/Users, /Groups, /Devices" in told.message
    assert world.registry.by_name("Device").schema.id == DEVICE
    assert world.registry.version > 0
    assert world.log() == [("schemas", 200, "operator")]
    assert world.rows("SELECT count(*) FROM inbox") == [(0,)]


async def test_what_is_accepted_is_asked_for_once(world: World) -> None:
    await world.settle(device())
    version = world.registry.version
    await world.settle(device())
    await world.settle(list(reversed(device())))
    assert (world.registry.version, len(world.log())) == (version, 1)


async def test_what_is_stored_and_contradicts_is_listed_and_nothing_changes(world: World) -> None:
    await world.settle(device(size={"type": "integer"}))
    whole, without, other = await world.make(
        {"name": "secret-name", "size": 7}, {"name": "x"}, {"name": "y", "size": 8}
    )
    told = await world.settle(device(size={"type": "string", "required": True}))
    assert (told.status, told.reason) == ("False", "Contradicted")
    assert f"Device {whole}: size must be a string, not a number" in told.message
    assert f"Device {without}: size is required and missing" in told.message
    assert "for 3 of what is stored" in told.message
    assert "secret-name" not in told.message
    assert world.registry.by_name("Device").attribute("size").type == "integer"  # type: ignore[union-attr]
    assert world.log()[-1] == ("schemas", 409, "operator")
    assert other


async def test_the_list_is_short_and_the_count_is_whole(world: World) -> None:
    await world.settle(device())
    await world.make(*({"name": f"n{number}"} for number in range(25)))
    told = await world.settle(device(size={"required": True}))
    assert told.message.count("size is required and missing") == 20
    assert "25 of what is stored" in told.message
    assert "and 5 more" in told.message


async def test_a_refusal_is_looked_at_again_when_all_that_was_listed_has_changed(world: World) -> None:
    await world.settle(device(size={}))
    first, second = await world.make({"name": "a"}, {"name": "b"})
    wanted = device(size={"required": True})
    assert (await world.settle(wanted)).reason == "Contradicted"
    for target, reason, changes in ((first, "Contradicted", 2), (second, "Accepted", 3)):
        await world.send("patch", [{"op": "add", "path": "size", "value": "s"}], target)
        world.drain()
        assert (await world.settle(wanted)).reason == reason
        assert len([1 for operation, _, _ in world.log() if operation == "schemas"]) == changes


async def test_values_that_become_unique_are_kept_from_then_on(world: World) -> None:
    await world.settle(device(serial={}))
    await world.make({"name": "a", "serial": "S1"}, {"name": "b", "serial": "s2"}, {"name": "c"})
    told = await world.settle(device(serial={"uniqueness": "server"}))
    assert told.reason == "Accepted"
    assert world.spaces() == {"serial": ["s1", "s2"]}
    assert await world.find('serial eq "S2"') == ["b"]
    await world.make({"name": "d", "serial": "s1"})
    assert world.log()[-1][1] == 409


async def test_two_that_have_the_same_value_are_told_and_nothing_is_left_of_the_check(world: World) -> None:
    await world.settle(device(serial={}, tag={"uniqueness": "server"}))
    first, second = await world.make({"name": "a", "serial": "S1", "tag": "t"}, {"name": "b", "serial": "s1"})
    told = await world.settle(device(serial={"uniqueness": "server"}, tag={"uniqueness": "server"}))
    assert told.reason == "Contradicted"
    assert f"Device {second}: serial is the same as that of {first}, and must be unique" in told.message
    assert world.spaces() == {"tag": ["t"]}


async def test_the_case_of_what_is_unique_changes_with_what_is_kept(world: World) -> None:
    exact = device(serial={"uniqueness": "server", "caseExact": True})
    caseless = device(serial={"uniqueness": "server"})
    await world.settle(exact)
    first, second = await world.make({"name": "a", "serial": "ABC"}, {"name": "b", "serial": "abc"})
    told = await world.settle(caseless)
    assert told.reason == "Contradicted"
    assert f"{second}: serial is the same as that of {first}" in told.message
    assert await world.find('serial eq "ABC"') == ["a"]
    assert world.spaces() == {"serial exact": ["ABC", "abc"]}
    await world.send("delete", None, second)
    world.drain()
    assert (await world.settle(caseless)).reason == "Accepted"
    assert world.spaces() == {"serial": ["abc"]}
    assert await world.find('serial eq "aBc"') == ["a"]
    assert (await world.settle(exact)).reason == "Accepted"
    assert world.spaces() == {"serial exact": ["ABC"]}
    assert await world.find('serial eq "abc"') == []


async def test_what_is_no_longer_unique_is_kept_no_more(world: World) -> None:
    await world.settle(device(serial={"uniqueness": "server"}))
    await world.make({"name": "a", "serial": "s"})
    assert (await world.settle(device(serial={}))).reason == "Accepted"
    assert world.spaces() == {}
    await world.make({"name": "b", "serial": "s"})
    assert await world.find('serial eq "S"') == ["a", "b"]


async def test_a_resource_type_goes_only_when_nothing_of_it_is_left(world: World) -> None:
    await world.settle(device(serial={"uniqueness": "server"}))
    [made] = await world.make({"name": "a", "serial": "s"})
    told = await world.settle(None)
    assert told.reason == "Contradicted"
    assert f"Device {made}: its resource type would be gone" in told.message
    await world.send("delete", None, made)
    world.drain()
    told = await world.settle(None)
    assert (told.status, told.reason) == ("True", "Accepted")
    assert world.registry is schemas.default()
    assert world.spaces() == {}


async def test_changes_that_wait_behind_are_read_again_by_the_new_schemas(world: World) -> None:
    await world.settle(device(size={"type": "integer"}))
    before = world.registry
    [made] = await world.make({"name": "a"})
    await world.ask(device(size={"type": "string"}, tag={"required": False}))
    await world.send("create", {"name": "number", "size": 7}, registry=before)
    await world.send("patch", [{"op": "add", "path": "size", "value": 7}], made, registry=before)
    kept = await world.send("create", {"name": "fine"}, registry=before)
    world.drain()
    assert [status for _, status, _ in world.log()[-3:]] == [400, 400, 201]
    [(detail,)] = world.rows("SELECT detail FROM change_log WHERE operation = 'patch'")
    assert detail == "size must be a string, not a number."
    assert world.rows("SELECT document FROM resources WHERE id = %s", kept) == [
        ({"schemas": [DEVICE], "name": "fine"},)
    ]


@pytest.mark.parametrize("promised", [False, True], ids=["", "answered 202"])
async def test_a_change_of_a_type_that_is_gone_by_then_is_not_found(world: World, promised: bool) -> None:
    await world.settle(device())
    before = world.registry
    await world.ask(None)
    await world.send("create", {"name": "late"}, registry=before, promised=promised, told_later=promised)
    world.drain()
    assert world.log()[-1][:2] == ("create", 404)
    told = world.rows("SELECT kind, detail ->> 'status' FROM events ORDER BY number")
    assert told == ([("asyncresp", "404")] if promised else [])


async def test_a_check_goes_on_where_another_drain_left_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.settle(device(serial={}))
    await world.make(*({"name": f"n{number}", "serial": str(number)} for number in range(7)))
    looked_at: list[int] = []
    go_on = schema_checks.go_on

    def one_slice(*arguments: Any) -> schema_checks.Check | None:
        if len(looked_at) == stops_after[0]:
            raise KeyboardInterrupt  # as a worker dies: nothing runs after it
        after = go_on(*arguments)
        looked_at.append(after.checked if after else -1)
        return after

    stops_after = [2]
    monkeypatch.setattr(schema_checks, "SLICE", 2)
    monkeypatch.setattr(schema_checks, "go_on", one_slice)
    wanted = device(serial={"uniqueness": "server"})
    await world.ask(wanted)
    with pytest.raises(KeyboardInterrupt):
        world.drain()
    told = await world.ask(wanted)
    assert (told.status, told.message) == ("Unknown", "4 of 7 checked; later changes wait")
    assert world.spaces() == {"serial": ["0", "1", "2", "3"]}
    assert world.registry.by_name("Device").attribute("serial").uniqueness == "none"  # type: ignore[union-attr]
    stops_after[0] = 99
    world.drain()
    assert looked_at == [2, 4, 6, 7, -1]
    assert (await world.ask(wanted)).reason == "Accepted"
    assert len(world.spaces()["serial"]) == 7


async def test_a_worker_that_dies_right_after_the_end_leaves_its_cleaning_to_the_next(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.settle(device(serial={"uniqueness": "server"}))
    await world.make({"name": "a", "serial": "s"})

    def die(*_: Any) -> bool:
        raise KeyboardInterrupt

    await world.ask(device(serial={}))
    with monkeypatch.context() as patched:
        patched.setattr(schema_changes._Run, "_conclude", _conclude_then(die))
        with pytest.raises(KeyboardInterrupt):
            world.drain()
    assert world.spaces() == {"serial": ["s"]}
    world.drain()
    assert world.spaces() == {}
    assert [operation for operation, _, _ in world.log()] == ["schemas", "create", "schemas"]


def _conclude_then(die: Any) -> Any:
    def conclude(run: schema_changes._Run, *_: Any) -> None:
        schema_checks.accept(*run._whose, run._entry)
        die()

    return conclude


async def test_of_several_the_last_one_counts(world: World) -> None:
    await world.ask(device(size={"type": "integer"}))
    await world.ask(device(size={"type": "decimal"}))
    world.drain()
    assert [status for _, status, _ in world.log()] == [409, 200]
    assert world.registry.by_name("Device").attribute("size").type == "decimal"  # type: ignore[union-attr]


async def test_what_is_given_up_before_its_turn_is_not_checked(world: World) -> None:
    await world.settle(device())
    await world.ask(device(size={}))
    told = await world.settle(device())
    assert told.reason == "Accepted"
    assert [status for _, status, _ in world.log()] == [200, 409, 200]
    assert world.registry.by_name("Device").attribute("size") is None


async def test_a_check_that_kills_its_workers_becomes_a_dead_letter_and_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise KeyboardInterrupt

    await world.ask(device())
    with monkeypatch.context() as patched:
        patched.setattr(schema_checks, "begin", broken)
        for _ in range(4):  # twice among others, twice alone
            with pytest.raises(KeyboardInterrupt):
                world.drain()
    world.drain()
    told = await world.ask(device())
    assert (told.status, told.reason) == ("False", "CheckFailed")
    assert world.registry is schemas.default()
    assert (await world.settle(device(size={}))).reason == "Accepted"


async def test_without_a_way_to_the_queue_the_sweep_finds_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.ask(device(), redis_url=None)
    assert world.drain() == "idle"
    monkeypatch.setattr(promises, "APPENDED_BY_NOW", -promises.APPENDED_BY_NOW)
    sweep = sweeps.Sweep(world.process.settings, world.process.stopping)
    sweep.keep_promises()
    sweep.close()
    world.drain()
    assert (await world.ask(device())).reason == "Accepted"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        pytest.param([KIND], f"all.json: Device: the schema {DEVICE} is not known", id="half of it"),
        pytest.param(
            [{"id": DEVICE, "attributes": [{"name": "id"}]}],
            f"all.json: {DEVICE}:id: every",
            id="reserved name",
        ),
    ],
)
async def test_what_can_not_be_is_told_and_never_queued(world: World, wanted: Any, told: str) -> None:
    await world.settle(device())
    found = await world.ask(wanted)
    assert (found.status, found.reason) == ("False", "Invalid")
    assert told in found.message
    assert len(world.log()) == 1
    assert (await world.ask(device())).reason == "Accepted"


@pytest.mark.parametrize("known", ["nothing", "what held before"])
async def test_a_worker_that_knows_other_schemas_learns_those_that_hold(world: World, known: str) -> None:
    await world.settle(device())
    before = world.registry
    await world.settle(device(size={"type": "integer"}))
    registries = world.process.registries
    registries.keep(TENANT, before if known == "what held before" else schemas.default())
    [made] = await world.make({"name": "a", "size": 7})
    assert world.rows("SELECT document -> 'size' FROM resources WHERE id = %s", made) == [(7,)]
    assert registries.kept(TENANT).version == world.registry.version
