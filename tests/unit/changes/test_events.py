"""An event tells what a turn made known: what changed, what came back, what a client was promised to hear."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

import pytest

from usher_core import ids
from usher_core.changes import events, records, revocations
from usher_core.scim import patches, schemas

REGISTRY = schemas.default()
ONE, ADA = (ids.ResourceId(uuid.UUID(int=number)) for number in (1, 2))
BULK = ids.ChangeId(uuid.UUID(int=9))


def change(operation: records.Operation = "patch", kind: str = "User", **more: Any) -> records.Change:
    body = patches.dump(
        patches.parse(
            {"Operations": [{"op": "replace", "path": "active", "value": False}]}, REGISTRY.by_name("User")
        )
    )
    change_id = ids.ChangeId(ids.new_uuid())
    made = records.Change(change_id, records.now(), operation, kind, ONE, body, None, "t", "r", "")
    return dataclasses.replace(made, **more)


def told(made: records.Change, status: int, *, changed: bool = False, **more: Any) -> list[events.Event]:
    outcome = records.Outcome(made.change_id, status, **more)
    return list(events.of_outcome(REGISTRY, made, outcome, changed=changed))


@pytest.mark.parametrize(
    ("operation", "status", "kind"),
    [
        ("create", 201, "create"),
        ("replace", 200, "put"),
        ("patch", 200, "patch"),
        ("delete", 204, "delete"),
        ("restore", 200, "restore"),
    ],
)
def test_what_changed_something_is_told_once(operation: Any, status: int, kind: str) -> None:
    made = change(operation)
    [event] = told(made, status, changed=True, version=3)
    assert event == events.Event(kind, made.change_id, "User", ONE, 3)  # type: ignore[arg-type]


def test_what_changed_nothing_is_not_told() -> None:
    assert told(change(), 200, version=3) == []


def test_a_revived_user_is_told_by_the_id_it_has() -> None:
    [event] = told(change("create"), 201, changed=True, version=4, resource_id=ADA)
    assert event.resource_id == ADA


def test_what_a_refused_revocation_took_away_is_told_to_be_back() -> None:
    made = change(promised=True)
    assert told(made, 404) == [events.Event("unrevoke", made.change_id, "User", ONE)]


def test_a_dead_letter_gives_nothing_back() -> None:
    assert told(change(promised=True), events.DEAD) == []


def test_a_member_is_told_with_its_group() -> None:
    made = change(kind="Group")
    [event] = events.of_fences(made, [revocations.Fence(ADA, ONE)])
    assert (event.kind, event.resource_type, event.resource_id) == ("revoke", "Group", ONE)
    assert event.to_row()["detail"] == {"member": str(ADA)}


def test_a_promised_outcome_is_told_as_one_operation_of_a_bulk_answer() -> None:
    made = change(told_later=True, part_of=(BULK, 2))
    [event] = told(made, 409, scim_type="uniqueness", detail="taken")
    assert event.kind == "asyncresp"
    assert event.detail == {
        "method": "PATCH",
        "status": "409",
        "txn": f"{BULK}:2",
        "response": {
            "schemas": ["urn:ietf:params:scim:api:messages:2.0:Error"],
            "status": "409",
            "scimType": "uniqueness",
            "detail": "taken",
        },
    }


def test_a_bulk_itself_is_told_by_its_operations() -> None:
    assert told(change("bulk", told_later=True), 200) == []
