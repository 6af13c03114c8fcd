"""A change that was accepted under other schemas is read again by those of its turn."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import pytest

from usher_core import errors, ids
from usher_core.changes import records, snapshots, units, validations
from usher_core.scim import documents, patches, registries, schemas

DEVICE = "urn:example:scim:schemas:1.0:Device"
NOW = datetime.datetime(2030, 1, 1, tzinfo=datetime.UTC)


def registry(version: int, *attributes: dict[str, Any]) -> schemas.Registry:
    return registries.build(
        [
            {"id": DEVICE, "attributes": list(attributes)},
            {"name": "Device", "endpoint": "/Devices", "schema": DEVICE},
        ],
        version,
    )


OLD = registry(1, {"name": "name"}, {"name": "size", "type": "integer"}, {"name": "tag"})
NEW = registry(
    2,
    {"name": "name"},
    {"name": "size", "type": "string"},
    {"name": "serial", "required": True},
)


def change(operation: records.Operation, body: Any, version: int = 1) -> records.Change:
    kind = OLD.by_name("Device")
    if operation == "create":
        body = documents.normalise(kind, body)
    elif operation == "patch":
        body = patches.dump(patches.parse({"Operations": body}, kind))
    return records.Change(
        ids.ChangeId(ids.new_uuid()),
        NOW,
        operation,
        "Device",
        ids.ResourceId(ids.new_uuid()),
        body,
        None,
        "t",
        "r",
        "",
        schemas_version=version,
    )


def test_what_was_read_by_the_same_schemas_is_not_read_again():
    made = change("create", {"size": 7}, version=2)
    assert validations.renewed(made, NEW) is made


def test_a_create_is_read_again():
    with pytest.raises(errors.InvalidValue, match=r"size must be a string"):
        validations.renewed(change("create", {"size": 7}), NEW)
    with pytest.raises(errors.InvalidValue, match=r"serial is required"):
        validations.renewed(change("create", {"name": "a"}), NEW)


def test_what_is_no_attribute_any_more_is_met_as_the_tenant_wants_it():
    lenient = registry(3, {"name": "name"})
    made = change("create", {"name": "a", "tag": "t"})
    assert validations.renewed(made, lenient).body == {"schemas": [DEVICE], "name": "a"}
    with pytest.raises(errors.InvalidValue, match="tag is no attribute"):
        validations.renewed(made, lenient, ignore_unknown=False)


def test_a_patch_is_read_again():
    renewed = validations.renewed(change("patch", [{"op": "add", "path": "name", "value": "a"}]), NEW)
    assert (renewed.schemas_version, renewed.body) == (2, [{"op": "add", "path": "name", "value": "a"}])
    with pytest.raises(errors.InvalidValue, match="size must be a string"):
        validations.renewed(change("patch", [{"op": "add", "path": "size", "value": 7}]), NEW)
    with pytest.raises(errors.InvalidPath, match="tag is no attribute"):
        validations.renewed(change("patch", [{"op": "remove", "path": "tag"}]), NEW)


def test_a_contradiction_is_an_outcome_and_asks_nothing_of_the_store():
    for made, status in (
        (change("create", {"size": 7}), 400),
        (change("patch", [{"op": "add", "path": "size", "value": 7}]), 400),
        (dataclasses.replace(change("create", {}), resource_type="Gadget"), 404),
    ):
        asked = snapshots.Needs()
        snapshots.ask(asked, NEW, made)
        assert asked == snapshots.Needs()
        unit = units.Unit(NEW, snapshots.Snapshot(NOW))
        assert unit.apply(made).status == status
        assert [logged.change for logged in unit.writes().logged] == [made]


def test_a_change_that_still_holds_is_applied_as_the_new_schemas_read_it():
    other = registry(4, {"name": "NAME"})
    made = change("create", {"name": "a", "tag": "t"})
    asked = snapshots.Needs()
    snapshots.ask(asked, other, made)
    outcome = units.Unit(other, snapshots.Snapshot(NOW)).apply(made)
    assert (outcome.status, outcome.document) == (201, {"schemas": [DEVICE], "NAME": "a"})


@pytest.mark.parametrize("version", [0, 5])
@pytest.mark.parametrize("part", [None, (ids.ChangeId(ids.new_uuid()), 3)], ids=["alone", "of a bulk"])
def test_the_version_travels_with_the_change(version, part):
    made = dataclasses.replace(change("create", {}), schemas_version=version, part_of=part)
    assert records.Change.decode(made.encode()) == made


def test_a_device_is_no_member_unless_the_schema_of_groups_says_so():
    device = ids.ResourceId(ids.new_uuid())
    group = NEW.by_name("Group")
    body = documents.normalise(group, {"displayName": "G", "members": [{"value": str(device)}]})
    made = dataclasses.replace(change("create", {}, version=2), resource_type="Group", body=body)
    snapshot = snapshots.Snapshot(NOW, targets={device: "Device"})
    outcome = units.Unit(NEW, snapshot).apply(made)
    assert (outcome.status, outcome.scim_type) == (400, "invalidValue")
    assert "is a Device; a member may be a User or a Group" in (outcome.detail or "")


def test_a_deleted_user_that_does_not_fit_any_more_is_not_restored():
    badge = {"id": "urn:example:Badge", "attributes": [{"name": "number", "required": True}]}
    users = {
        "name": "User",
        "endpoint": "/Users",
        "schema": schemas.USER,
        "schemaExtensions": [{"schema": "urn:example:Badge", "required": True}],
    }
    user = documents.normalise(schemas.default().by_name("User"), {"userName": "ada@example.com"})
    left = snapshots.Stored("User", ids.ResourceId(ids.new_uuid()), 3, user, NOW, NOW)
    made = dataclasses.replace(change("delete", None), operation="restore", resource_type="User", body=user)
    made = dataclasses.replace(made, resource_id=left.id)
    for kept, status in ((registries.build([badge, users], 2), 400), (schemas.default(), 200)):
        asked = snapshots.Needs()
        snapshots.ask(asked, kept, made)
        snapshot = snapshots.Snapshot(NOW, deleted={left.id: left}, owners=dict.fromkeys(asked.owners))
        outcome = units.Unit(kept, snapshot).apply(made)
        assert outcome.status == status, outcome.detail
    assert outcome.document == user
