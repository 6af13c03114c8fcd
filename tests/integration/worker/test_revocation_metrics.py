"""What a deprovisioning costs, and the one that fails, can be seen in the metrics of the worker."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY as METRICS

from usher_core import ids, settings
from usher_core.changes import records
from usher_core.embedded.databases import DatabaseUrls
from usher_core.queues import keys
from usher_core.scim import documents, patches, schemas
from usher_worker import drains, processes

REGISTRY = schemas.default()
TENANT = ids.TenantId(uuid.UUID(int=1))
ADA, TEAM = (ids.ResourceId(uuid.UUID(int=number)) for number in (2, 3))
OFF = [{"op": "replace", "path": "active", "value": False}]
TITLE = [{"op": "replace", "path": "title", "value": "Dr"}]
NOBODY = [{"op": "replace", "path": "members", "value": []}]
NAME = [{"op": "replace", "path": "displayName", "value": "x"}]

TIME_TO_REVOKE = "usher_time_to_revoke_seconds_count"
DEAD_REVOCATIONS = "usher_dead_revocations_total"

Apply = Callable[..., None]


def change(operation: Any, kind: str, body: Any = None, **more: Any) -> records.Change:
    resource_type = REGISTRY.by_name(kind)
    if operation in ("create", "replace"):
        body = documents.normalise(resource_type, body)
    elif isinstance(body, list):
        body = patches.dump(patches.parse({"Operations": body}, resource_type))
    about = ADA if kind == "User" else TEAM
    change_id = ids.ChangeId(ids.new_uuid())
    made = records.Change(change_id, records.now(), operation, kind, about, body, None, "t", "r", "")
    return dataclasses.replace(made, **more)


@pytest.fixture
def apply(database_urls: DatabaseUrls, redis_url: str) -> Iterator[Apply]:
    """Apply changes to a tenant that has the user Ada in a group."""
    with psycopg.connect(database_urls.owner) as owner:
        owner.execute("INSERT INTO tenants (tenant, namespace, name) VALUES (%s, 'test', 'acme')", (TENANT,))
        owner.execute("INSERT INTO drains (tenant) VALUES (%s)", (TENANT,))
    config = settings.Settings(
        database_url=database_urls.app, redis_url=redis_url, drain_linger=0.0, alone_attempts=1
    )
    process = processes.Process(config)

    def apply(*changes: records.Change) -> None:
        for one in changes:
            process.redis.xadd(keys.changes(TENANT), {"c": one.encode()})
        assert drains.Drain(process, TENANT).run() == "idle"

    apply(
        change("create", "User", {"userName": "ada@x.io"}),
        change("create", "Group", {"displayName": "T", "members": [{"value": str(ADA)}]}),
    )
    yield apply
    process.close()


def counted(name: str, work: Callable[[], None]) -> float:
    before = METRICS.get_sample_value(name) or 0.0
    work()
    return (METRICS.get_sample_value(name) or 0.0) - before


@pytest.mark.parametrize(
    ("asked", "times"),
    [
        pytest.param(change("delete", "User", if_match=(1,)), 1, id="a user deleted at one version"),
        pytest.param(change("patch", "User", OFF, if_match=(1,)), 1, id="deactivated at one version"),
        pytest.param(change("patch", "User", OFF, if_match=(9,)), 0, id="at a version that is gone"),
        pytest.param(change("patch", "User", OFF, promised=True), 0, id="at its acceptance, by the api"),
        pytest.param(change("patch", "User", TITLE, if_match=(1,)), 0, id="another attribute"),
        pytest.param(change("delete", "Group"), 1, id="a group deleted"),
        pytest.param(change("patch", "Group", NOBODY), 1, id="members replaced"),
        pytest.param(
            change("replace", "Group", {"displayName": "T", "members": []}), 1, id="a group replaced"
        ),
        pytest.param(change("patch", "Group", NAME), 0, id="a group renamed"),
    ],
)
def test_the_time_to_revoke_is_measured_for_what_takes_access_away_in_its_turn(
    apply: Apply, asked: records.Change, times: int
) -> None:
    assert counted(TIME_TO_REVOKE, lambda: apply(asked)) == times


def test_an_update_of_somebody_who_is_inactive_already_is_no_revocation(apply: Apply) -> None:
    apply(change("patch", "User", OFF))
    asked = change("patch", "User", TITLE, if_match=(2,))
    assert counted(TIME_TO_REVOKE, lambda: apply(asked)) == 0


def test_a_revocation_that_becomes_a_dead_letter_is_counted(apply: Apply) -> None:
    broken = change("patch", "User", "nonsense")
    assert counted(DEAD_REVOCATIONS, lambda: apply(broken)) == 0, "it took nothing away at its acceptance"
    revocation = change("patch", "User", "nonsense", promised=True)
    assert counted(DEAD_REVOCATIONS, lambda: apply(revocation)) == 1
