"""A change is a revocation when it names what it takes away and needs no state to say so."""

from __future__ import annotations

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
