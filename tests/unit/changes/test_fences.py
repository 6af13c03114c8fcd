"""A change is a revocation when it names what it takes away and needs no state to say so."""

from __future__ import annotations

import dataclasses
import uuid
from typing import Any

import pytest

from usher_core import ids
from usher_core.changes import records, revocations
from usher_core.scim import documents, patches, schemas

ONE, ADA, BOB = (ids.ResourceId(uuid.UUID(int=number)) for number in (1, 2, 3))
USER, GROUP = (schemas.default().by_name(name) for name in ("User", "Group"))


def change(
    operation: records.Operation,
    kind: schemas.ResourceType,
    body: Any = None,
    if_match: tuple[int, ...] | None = None,
) -> records.Change:
    change_id = ids.ChangeId(ids.new_uuid())
    return records.Change(change_id, records.now(), operation, kind.name, ONE, body, if_match, "t", "r", "")


def patch(kind: schemas.ResourceType, *operations: dict[str, Any], if_match: bool = False) -> records.Change:
    message = {"schemas": ["urn:ietf:params:scim:api:messages:2.0:PatchOp"], "Operations": list(operations)}
    body = patches.dump(patches.parse(message, kind))
    return change("patch", kind, body, (1,) if if_match else None)


def put(**attributes: Any) -> records.Change:
    body = {"schemas": [schemas.USER], "userName": "ada@example.com"} | attributes
    return change("replace", USER, documents.normalise(USER, body))


USER_IS_OUT = (revocations.Fence(ONE),)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(change("delete", USER), USER_IS_OUT, id="a user is deleted"),
        pytest.param(change("delete", USER, if_match=(1,)), (), id="a user is deleted at one version"),
        pytest.param(change("delete", GROUP), (), id="a group is deleted"),
        pytest.param(put(active=False), USER_IS_OUT, id="a user is replaced by an inactive one"),
        pytest.param(put(active=True), (), id="a user is replaced by an active one"),
        pytest.param(
            patch(USER, {"op": "replace", "path": "active", "value": False}), USER_IS_OUT, id="with path"
        ),
        pytest.param(
            patch(USER, {"op": "Replace", "value": {"active": "False"}}), USER_IS_OUT, id="without path, text"
        ),
        pytest.param(
            patch(USER, {"op": "replace", "path": "active", "value": False}, if_match=True),
            (),
            id="at one version",
        ),
        pytest.param(
            patch(
                USER,
                {"op": "replace", "path": "active", "value": False},
                {"op": "replace", "path": "active", "value": True},
            ),
            (),
            id="the last word counts",
        ),
        pytest.param(
            patch(
                USER,
                {"op": "replace", "path": 'emails[type eq "work"].value', "value": "a@b"},
                {"op": "replace", "path": "active", "value": False},
            ),
            USER_IS_OUT,
            id="among others that need the user",
        ),
        pytest.param(patch(USER, {"op": "replace", "path": "title", "value": "x"}), (), id="something else"),
        pytest.param(
            patch(GROUP, {"op": "remove", "path": f'members[value eq "{ADA}"]'}),
            (revocations.Fence(ADA, ONE),),
            id="a member by path",
        ),
        pytest.param(
            patch(GROUP, {"op": "remove", "path": "members", "value": [{"value": str(ADA)}, {"value": "x"}]}),
            (revocations.Fence(ADA, ONE),),
            id="members by value, one of them no id of ours",
        ),
        pytest.param(
            patch(
                GROUP,
                {"op": "remove", "path": f'members[value eq "{ADA}" or value eq "{BOB}"]'},
                {"op": "add", "path": "members", "value": [{"value": str(ADA)}]},
            ),
            (revocations.Fence(BOB, ONE),),
            id="a member that comes back",
        ),
        pytest.param(
            patch(GROUP, {"op": "replace", "path": "members", "value": [{"value": str(ADA)}]}),
            (),
            id="members replaced",
        ),
        pytest.param(patch(GROUP, {"op": "remove", "path": "members"}), (), id="all members"),
        pytest.param(
            change("create", USER, {"userName": "ada@example.com", "active": False}), (), id="a new user"
        ),
    ],
)
def test_what_a_change_takes_away(asked: records.Change, expected: tuple[revocations.Fence, ...]) -> None:
    assert revocations.fences(schemas.default(), asked) == expected


@pytest.mark.parametrize("operation", ["create", "replace", "patch", "delete"])
def test_what_was_of_a_type_that_is_gone_takes_nothing_away(operation: records.Operation) -> None:
    gone = dataclasses.replace(change(operation, USER, {}), resource_type="Device")
    assert revocations.fences(schemas.default(), gone) == ()


ADA_STAYS = {"schemas": [schemas.GROUP], "displayName": "T", "members": [{"value": str(ADA)}]}


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        pytest.param(change("delete", USER, if_match=(1,)), True, id="a user is deleted at one version"),
        pytest.param(put(active=False), True, id="a user is replaced by an inactive one"),
        pytest.param(put(active=True), False, id="a user is replaced by an active one"),
        pytest.param(
            patch(USER, {"op": "replace", "path": "active", "value": False}, if_match=True),
            True,
            id="a user is deactivated at one version",
        ),
        pytest.param(
            patch(USER, {"op": "replace", "path": "title", "value": "x"}, if_match=True),
            False,
            id="another attribute of a user, at one version",
        ),
        pytest.param(change("delete", GROUP), True, id="a group is deleted"),
        pytest.param(
            change("replace", GROUP, documents.normalise(GROUP, ADA_STAYS)), True, id="a group is replaced"
        ),
        pytest.param(
            change("replace", GROUP, documents.normalise(GROUP, {"displayName": "T"})),
            False,
            id="a group is replaced but for its members",
        ),
        pytest.param(
            patch(GROUP, {"op": "replace", "path": "members", "value": [{"value": str(ADA)}]}),
            True,
            id="members are replaced",
        ),
        pytest.param(patch(GROUP, {"op": "remove", "path": "members"}), True, id="all members are removed"),
        pytest.param(
            patch(GROUP, {"op": "remove", "path": 'members[display eq "Ada"]'}),
            True,
            id="members are removed by a filter",
        ),
        pytest.param(
            patch(GROUP, {"op": "remove", "path": f'members[value eq "{ADA}"]'}, if_match=True),
            True,
            id="a member is removed at one version",
        ),
        pytest.param(
            patch(GROUP, {"op": "add", "path": "members", "value": [{"value": str(ADA)}]}),
            False,
            id="a member is added",
        ),
        pytest.param(
            patch(GROUP, {"op": "replace", "path": "displayName", "value": "x"}), False, id="a new name"
        ),
        pytest.param(change("create", USER, {"active": False}), False, id="a user is created inactive"),
        pytest.param(
            dataclasses.replace(change("delete", USER), resource_type="Device"), False, id="of a gone type"
        ),
    ],
)
def test_what_is_meant_to_take_access_away_is_told_also_where_it_is_no_revocation(
    asked: records.Change, expected: bool
) -> None:
    assert revocations.takes_away(schemas.default(), asked) is expected
