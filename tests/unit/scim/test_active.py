"""Whether a user is active: silence changes nothing, taking the attribute away takes the access away."""

from __future__ import annotations

from typing import Any

import pytest

from usher_core import errors, ids
from usher_core.changes import policies, records, revocations
from usher_core.scim import documents, patches, schemas

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")


def read(**attributes: Any) -> dict[str, Any]:
    return documents.normalise(USER, {"userName": "a@x.io", **attributes})


@pytest.mark.parametrize(
    ("sent", "before", "active"),
    [
        pytest.param({}, None, True, id="a new user of whom nothing is said"),
        pytest.param({"active": None}, None, False, id="a new user with null"),
        pytest.param({"active": []}, None, False, id="a new user with an empty list"),
        pytest.param({"active": "False"}, None, False, id="a new user who is not"),
        pytest.param({}, {"active": False}, False, id="nobody comes back by silence"),
        pytest.param({}, {"active": True}, True, id="nobody is shut out by silence"),
        pytest.param({"active": None}, {"active": True}, False, id="null takes the access away"),
        pytest.param({"active": True}, {"active": False}, True, id="what is said counts"),
    ],
)  # fmt: skip
def test_whether_a_user_is_active(sent: dict[str, Any], before: dict[str, Any] | None, active: bool) -> None:
    assert documents.with_active(USER, read(**sent), before)["active"] is active


def test_only_users_are_active() -> None:
    group = documents.normalise(GROUP, {"displayName": "G", "active": None})
    assert documents.with_active(GROUP, group) == group
    assert "active" not in group


@pytest.mark.parametrize(
    ("operation", "active"),
    [
        pytest.param({"op": "Replace", "path": "Active", "value": None}, False, id="null"),
        pytest.param({"op": "replace", "value": {"active": None}}, False, id="null without a path"),
        pytest.param(
            {"op": "replace", "path": f"{schemas.USER}:active", "value": []}, False, id="by its URN"
        ),
        pytest.param({"op": "add", "path": "active", "value": None}, True, id="adding null adds nothing"),
        pytest.param({"op": "replace", "value": {"title": None}}, True, id="another attribute"),
    ],
)
def test_taking_the_attribute_away_takes_the_access_away(operation: dict[str, Any], active: bool) -> None:
    operations = patches.parse({"schemas": [], "Operations": [operation]}, USER)
    assert patches.apply(USER, read(active=True), operations).document["active"] is active


def test_what_a_patch_removed_comes_back_by_no_silence() -> None:
    operations = patches.parse({"schemas": [], "Operations": [{"op": "remove", "path": "active"}]}, USER)
    removed = patches.apply(USER, read(active=True), operations).document
    assert "active" not in removed
    assert documents.with_active(USER, read(), removed) == removed
    assert documents.with_active(USER, read(active=True), removed)["active"] is True


@pytest.mark.parametrize(
    ("before", "after", "missing"),
    [
        pytest.param({"active": True}, {}, "DeactivateUsers", id="removed"),
        pytest.param({"active": True}, {"active": False}, "DeactivateUsers", id="turned off"),
        pytest.param({"active": False}, {"active": True}, "UpdateUsers", id="turned on"),
        pytest.param({}, {"active": True}, "UpdateUsers", id="said again"),
        pytest.param({"active": False}, {}, "UpdateUsers", id="removed from who was inactive"),
    ],
)
def test_taking_access_away_is_a_deactivation(
    before: dict[str, Any], after: dict[str, Any], missing: str
) -> None:
    policy = policies.Policy(actions=frozenset(policies.ACTIONS) - {missing})
    with pytest.raises(errors.Forbidden, match=missing):
        policy.admit_change("User", before, after)
    only = policies.Policy(actions=frozenset({missing}))
    only.admit_change("User", before, after)


@pytest.mark.parametrize("operation", [{"op": "remove", "path": "active"},
                                       {"op": "replace", "path": "active", "value": None}])  # fmt: skip
def test_taking_access_away_holds_from_its_acceptance(operation: dict[str, Any]) -> None:
    dumped = patches.dump(patches.parse({"schemas": [], "Operations": [operation]}, USER))
    target = ids.ResourceId(ids.new_uuid())
    change = records.Change(
        ids.ChangeId(ids.new_uuid()), records.now(), "patch", "User", target, dumped, None, "t", "r", ""
    )
    assert revocations.fences(REGISTRY, change) == (revocations.Fence(target),)
