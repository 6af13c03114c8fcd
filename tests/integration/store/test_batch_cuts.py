"""Where a stream is cut into batches decides nothing: one batch of all, or one of each, end alike."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from usher_core import ids
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.scim import documents, patches, schemas
from usher_core.store import batches

REGISTRY = schemas.default()
AT_ONCE, ONE_BY_ONE = ids.TenantId(uuid.UUID(int=1)), ids.TenantId(uuid.UUID(int=2))
USERS = [ids.ResourceId(uuid.UUID(int=10 + n)) for n in range(4)]
GROUPS = [ids.ResourceId(uuid.UUID(int=20 + n)) for n in range(2)]
NAMES = ["ada@x.io", "bob@x.io"]


@pytest.fixture
def connection(database_urls: DatabaseUrls) -> Iterator[batches.Connection]:
    with psycopg.connect(database_urls.owner) as owner:
        for tenant in (AT_ONCE, ONE_BY_ONE):
            owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', %s)",
                          (tenant, str(tenant)))  # fmt: skip
            owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (tenant,))
    opened = batches.Connection(database_urls.app)
    yield opened
    opened.close()


def stream(chance: random.Random, length: int) -> list[records.Change]:
    """Changes of few users and groups with few names, so that they get in each other's way."""
    return [_change(chance) for _ in range(length)]


def _change(chance: random.Random) -> records.Change:
    user, group = chance.choice(USERS), chance.choice(GROUPS)
    body = {"userName": chance.choice(NAMES), "externalId": "e", "active": chance.random() < 0.5}
    member = [{"value": str(chance.choice([user, *GROUPS])), "display": chance.choice(["a", "b"])}]
    selected = chance.choice(['display eq "A"', 'not (display eq "b")', 'type eq "Group"', "value pr"])
    team = {"displayName": "Team", "members": member}
    switch = {"op": "replace", "path": "active", "value": chance.random() < 0.3}
    rename = {"op": "replace", "path": "userName", "value": chance.choice(NAMES)}
    return chance.choice(
        [
            *[_made("create", user, body)] * 3,
            _made("replace", user, body),
            *[_made("patch", user, [switch])] * 2,
            _made("patch", user, [rename, switch]),
            _made("delete", user, None),
            _made("restore", user, body),
            _made("create", group, team, "Group"),
            *[_made("patch", group, [{"op": "add", "path": "members", "value": member}], "Group")] * 2,
            _made("patch", group, [{"op": "replace", "path": "members", "value": member}], "Group"),
            *[_made("patch", group, [{"op": "remove", "path": f"members[{selected}]"}], "Group")] * 2,
            _made("replace", group, team, "Group"),
            _made("delete", group, None, "Group"),
        ]
    )


def _made(operation: Any, resource_id: ids.ResourceId, body: Any, kind: str = "User") -> records.Change:
    resource_type = REGISTRY.by_name(kind)
    if operation in ("create", "replace", "restore"):
        body = documents.normalise(resource_type, body)
    elif operation == "patch":
        body = patches.dump(patches.parse({"schemas": [], "Operations": body}, resource_type))
    change_id = ids.ChangeId(ids.new_uuid())
    return records.Change(change_id, records.now(), operation, kind, resource_id, body, None, "t", "r", "")


def held(url: str, tenant: ids.TenantId) -> list[list[Any]]:
    with psycopg.connect(url) as owner:
        return [
            owner.execute(f"SELECT {columns} FROM {table} WHERE tenant = %s ORDER BY {columns}".encode(),
                          (tenant,)).fetchall()
            for table, columns in (
                ("resources", "type, id, version, document"),
                ("deleted_resources", "type, id, version, document"),
                ("unique_values", "type, path, folded, id"),
                ("members", "group_id, member_id, member_type, display"),
                ("(SELECT * FROM totals WHERE total <> 0) counted", "type, total"),
                ("change_log", "change_id, resource_id, status, version"),
            )
        ]  # fmt: skip


def outcome(one: records.Outcome) -> records.Outcome:
    return dataclasses.replace(one, created_at=None, modified_at=None)


@pytest.mark.parametrize("seed", range(12))
def test_how_a_stream_is_cut_into_batches_decides_nothing(
    connection: batches.Connection, database_urls: DatabaseUrls, seed: int
) -> None:
    chance = random.Random(seed)
    epochs = {tenant: connection.raise_epoch(tenant) for tenant in (AT_ONCE, ONE_BY_ONE)}
    for _ in range(6):
        known = _ids(database_urls.owner)
        entries = []
        for number, change in enumerate(stream(chance, 12)):
            # The api gives each create an id that is nobody's; here the ids are few.
            if change.operation != "create" or change.resource_id not in known:
                entries.append((f"1-{number}", change))
                known.add(change.resource_id)
        together = connection.apply(AT_ONCE, epochs[AT_ONCE], REGISTRY, entries)
        alone = [connection.apply(ONE_BY_ONE, epochs[ONE_BY_ONE], REGISTRY, [entry])[0] for entry in entries]
        assert [outcome(one) for one in together] == [outcome(one) for one in alone]
        assert held(database_urls.owner, AT_ONCE) == held(database_urls.owner, ONE_BY_ONE)


def _ids(url: str) -> set[ids.ResourceId]:
    with psycopg.connect(url) as owner:
        rows = owner.execute("SELECT id FROM resources UNION SELECT id FROM deleted_resources").fetchall()
    return {ids.ResourceId(one) for (one,) in rows}
