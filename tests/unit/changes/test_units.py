"""A unit of work decides every outcome in memory, and writes only what changed."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from pathlib import Path
from typing import Any

import pytest

from usher_core import ids
from usher_core.changes import memberships, policies, records, snapshots, units
from usher_core.scim import documents, patches, registries, schemas
from usher_core.testing import stores

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
NOW = datetime.datetime(2026, 11, 1, 12, tzinfo=datetime.UTC)
EARLIER = NOW - datetime.timedelta(days=1)


def rid(number: int) -> ids.ResourceId:
    return ids.ResourceId(uuid.UUID(int=number))


def change(
    operation: records.Operation, number: int, body: Any = None, kind: str = "User", **more: Any
) -> Any:
    resource_type = REGISTRY.by_name(kind)
    if operation in ("create", "replace", "restore"):
        body = documents.normalise(resource_type, body)
    elif operation == "patch":
        body = patches.dump(patches.parse({"schemas": [], "Operations": body}, resource_type))
    values = {"if_match": None, "token_id": "t", "request_id": "r", "reply_to": ""} | more
    return records.Change(ids.ChangeId(ids.new_uuid()), NOW, operation, kind, rid(number), body, **values)


def stored(number: int, body: Any, kind: str = "User", version: int = 1) -> snapshots.Stored:
    resource_type = REGISTRY.by_name(kind)
    document, _ = documents.split_members(resource_type, documents.normalise(resource_type, body))
    return snapshots.Stored(kind, rid(number), version, document, EARLIER, EARLIER)


def run(
    changes: list[records.Change],
    *resources: snapshots.Stored,
    members: dict[int, set[int]] | None = None,
    deleted: tuple[snapshots.Stored, ...] = (),
    policy: policies.Policy | None = None,
    crowded: bool = False,
) -> tuple[list[records.Outcome], units.Writes]:
    """Apply changes to what a store holds; with `crowded` it says that a filter selects too many members."""
    by_id = {one.id: one for one in resources}
    held = {
        rid(group): {
            rid(one): memberships.Member(
                rid(one), by_id[rid(one)].type if rid(one) in by_id else "User", None
            )
            for one in those
        }
        for group, those in (members or {}).items()
    }
    kept = {one.id: one for one in deleted}
    store = stores.Store(REGISTRY, policy or policies.Policy(), by_id, held, kept)
    snapshot = store.answer(changes, NOW)
    if crowded:
        snapshot.selected = dict.fromkeys(snapshot.selected)
    unit = units.Unit(REGISTRY, snapshot)
    outcomes = [unit.apply(one) for one in changes]
    return outcomes, unit.writes()


ADA = {"userName": "ada@x.io", "active": True}
BOB = {"userName": "bob@x.io", "active": True}


def test_a_create_is_one_insert() -> None:
    [outcome], writes = run([change("create", 1, ADA)])
    assert (outcome.status, outcome.version) == (201, 1)
    assert [one.id for one in writes.inserted] == [rid(1)]
    assert not writes.updated
    assert not writes.deleted


@pytest.mark.parametrize(
    ("changes", "statuses"),
    [
        pytest.param(
            [("create", 1, ADA), ("create", 2, {"userName": "ADA@X.IO"})], [201, 409], id="same name"
        ),
        pytest.param(
            [("create", 1, ADA), ("delete", 1), ("create", 2, ADA)], [201, 204, 201], id="name freed"
        ),
        pytest.param(
            [("create", 1, ADA), ("create", 2, BOB), ("replace", 2, ADA)],
            [201, 201, 409],
            id="renamed to taken",
        ),
        pytest.param(
            [("create", 1, ADA), ("replace", 1, BOB), ("create", 2, ADA)], [201, 200, 201], id="renamed away"
        ),
        pytest.param(
            [("create", 1, ADA), ("patch", 1, [{"op": "replace", "path": "userName", "value": "Ada@x.io"}])],
            [201, 200],
            id="own name in another case",
        ),
        pytest.param([("delete", 1)], [404], id="delete nobody"),
        pytest.param([("create", 1, ADA), ("delete", 1), ("delete", 1)], [201, 204, 404], id="delete twice"),
        pytest.param(
            [("patch", 9, [{"op": "add", "path": "title", "value": "x"}])], [404], id="patch nobody"
        ),
    ],
)
def test_changes_of_one_batch_see_each_other(changes: list[tuple[Any, ...]], statuses: list[int]) -> None:
    outcomes, _ = run([change(*one) for one in changes])
    assert [one.status for one in outcomes] == statuses


def test_a_resource_that_comes_and_goes_in_one_batch_writes_nothing() -> None:
    _, writes = run([change("create", 1, ADA), change("delete", 1)])
    assert (writes.inserted, writes.deleted) == ([], [])
    assert len(writes.logged) == 2


def test_a_409_names_the_attribute_and_changes_nothing() -> None:
    outcomes, writes = run([change("replace", 2, ADA)], stored(1, ADA), stored(2, BOB))
    assert (outcomes[0].status, outcomes[0].scim_type) == (409, "uniqueness")
    assert "userName" in (outcomes[0].detail or "")
    assert not writes.updated


def test_a_change_that_changes_nothing_keeps_version_and_time() -> None:
    patch = [{"op": "replace", "path": "active", "value": "True"}]
    outcomes, writes = run([change("patch", 1, patch), change("replace", 1, ADA)], stored(1, ADA, version=7))
    assert [(one.status, one.version, one.modified_at) for one in outcomes] == [(200, 7, EARLIER)] * 2
    assert not writes.updated


@pytest.mark.parametrize(("versions", "status"), [((7,), 200), ((3, 7), 200), ((6,), 412), ((), 412)])
def test_if_match_decides_by_the_version_at_the_change_s_turn(versions: tuple[int, ...], status: int) -> None:
    patch = [{"op": "add", "path": "title", "value": "Countess"}]
    [outcome], _ = run([change("patch", 1, patch, if_match=versions)], stored(1, ADA, version=7))
    assert outcome.status == status


def test_a_redelivered_change_gets_its_first_outcome_and_no_second_effect() -> None:
    first = change("create", 1, ADA)
    snapshot = snapshots.Snapshot(NOW)
    snapshot.applied[first.change_id] = records.Outcome(first.change_id, 201, version=1)
    unit = units.Unit(REGISTRY, snapshot)
    assert unit.apply(first).status == 201
    assert not unit.writes().inserted
    assert not unit.writes().logged


def test_a_failing_patch_leaves_the_resource_as_it_was() -> None:
    patch = [
        {"op": "replace", "path": "title", "value": "Countess"},
        {"op": "replace", "path": "userName", "value": "bob@x.io"},
    ]
    [outcome], writes = run([change("patch", 1, patch)], stored(1, ADA), stored(2, BOB))
    assert outcome.status == 409
    assert not writes.updated


TEAM = {"displayName": "Team"}


def member_rows(writes: units.Writes, group: int) -> memberships.Membership:
    return writes.memberships[rid(group)]


def test_adding_a_member_touches_its_row_and_the_group_s_header() -> None:
    patch = [{"op": "add", "path": "members", "value": [{"value": str(rid(1))}]}]
    [outcome], writes = run(
        [change("patch", 5, patch, "Group")], stored(1, ADA), stored(5, TEAM, "Group"), members={5: {2, 3}}
    )
    assert (outcome.status, outcome.version) == (200, 2)
    assert set(member_rows(writes, 5).overrides) == {rid(1)}
    assert [one.id for one in writes.updated] == [rid(5)]


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param({"op": "add", "path": "members", "value": [{"value": str(rid(1))}]}, id="add again"),
        pytest.param({"op": "remove", "path": f'members[value eq "{rid(2)}"]'}, id="remove absent"),
        pytest.param({"op": "remove", "path": 'members[type eq "Group"]'}, id="remove where there is none"),
        pytest.param(
            {"op": "replace", "path": "members", "value": [{"value": str(rid(1))}]}, id="replace same"
        ),
    ],
)
def test_a_membership_change_without_effect_succeeds_and_writes_nothing(patch: dict[str, Any]) -> None:
    [outcome], writes = run(
        [change("patch", 5, [patch], "Group")],
        stored(1, ADA), stored(2, BOB), stored(5, TEAM, "Group", version=4),
        members={5: {1}},
    )  # fmt: skip
    assert (outcome.status, outcome.version) == (200, 4)
    assert not writes.updated
    assert rid(5) not in writes.memberships


def test_replacing_the_members_is_a_full_replacement() -> None:
    body = TEAM | {"members": [{"value": str(rid(2))}]}
    [outcome], writes = run(
        [change("replace", 5, body, "Group")],
        stored(1, ADA), stored(2, BOB), stored(5, TEAM, "Group"),
        members={5: {1}},
    )  # fmt: skip
    assert (outcome.status, outcome.version) == (200, 2)
    assert member_rows(writes, 5).replaced
    assert set(member_rows(writes, 5).overrides) == {rid(2)}


def test_a_replacement_that_does_not_mention_members_leaves_them_alone() -> None:
    [outcome], writes = run([change("replace", 5, TEAM, "Group")], stored(5, TEAM, "Group"), members={5: {1}})
    assert outcome.version == 1
    assert not writes.memberships


def test_a_replacement_with_no_members_clears_the_group() -> None:
    body = TEAM | {"members": []}
    [outcome], writes = run([change("replace", 5, body, "Group")], stored(5, TEAM, "Group"), members={5: {1}})
    assert outcome.version == 2
    assert member_rows(writes, 5).replaced
    assert not member_rows(writes, 5).overrides


NAMED = {"value": str(rid(2)), "display": "Bob"}


@pytest.mark.parametrize(
    ("operations", "held"),
    [
        pytest.param([{"op": "remove", "path": 'members[type eq "user"]'}], set(), id="by type"),
        pytest.param(
            [{"op": "remove", "path": f'members[not (value eq "{rid(1)}")]'}], {1}, id="all but one"
        ),
        pytest.param(
            [
                {"op": "add", "path": "members", "value": [NAMED]},
                {"op": "remove", "path": 'members[display sw "bo"]'},
            ],
            {1, 3},
            id="one that has just come",
        ),
        pytest.param(
            [
                {"op": "remove", "path": "members[value pr]"},
                {"op": "add", "path": "members", "value": [NAMED]},
            ],
            {2},
            id="before another comes",
        ),
        pytest.param(
            [
                {
                    "op": "replace",
                    "path": "members",
                    "value": [{"value": str(rid(1)), "display": "A"}, NAMED],
                },
                {"op": "remove", "path": "members[display pr]"},
            ],
            {1},
            id="one that stays keeps the name it has",
        ),
        pytest.param(
            [
                {"op": "remove", "path": f'members[value eq "{rid(1)}"]'},
                {"op": "add", "path": "members", "value": [{"value": str(rid(1)), "display": "A"}]},
                {"op": "remove", "path": "members[display pr]"},
            ],
            {3},
            id="one that comes back has its new name",
        ),
    ],
)
def test_members_that_a_filter_selects_leave(operations: list[dict[str, Any]], held: set[int]) -> None:
    [outcome], writes = run(
        [change("patch", 5, operations, "Group")],
        stored(1, ADA), stored(2, BOB), stored(3, {"userName": "eve@x.io"}), stored(5, TEAM, "Group"),
        members={5: {1, 3}},
    )  # fmt: skip
    assert (outcome.status, outcome.version) == (200, 2)
    rows = member_rows(writes, 5)
    untouched = set() if rows.replaced else {rid(1), rid(3)} - rows.overrides.keys()
    present = {one for one, member in rows.overrides.items() if member is not None}
    assert untouched | present == {rid(number) for number in held}
    assert [one.id for one in writes.updated] == [rid(5)]


def test_a_filter_on_too_many_members_is_refused_and_nothing_is_applied() -> None:
    patch = [
        {"op": "add", "path": "members", "value": [{"value": str(rid(2))}]},
        {"op": "remove", "path": 'members[type eq "User"]'},
    ]
    [outcome], writes = run(
        [change("patch", 5, patch, "Group")],
        stored(2, BOB), stored(5, TEAM, "Group"), members={5: {1}}, crowded=True,
    )  # fmt: skip
    assert (outcome.status, outcome.scim_type) == (400, "tooMany")
    assert not writes.updated
    assert not writes.memberships


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        ("replace", TEAM | {"members": [{"value": str(rid(5))}]}),
        ("patch", [{"op": "add", "path": "members", "value": [{"value": str(rid(5))}]}]),
        ("patch", [{"op": "replace", "path": "members", "value": [{"value": str(rid(5))}]}]),
    ],
    ids=["PUT", "PATCH add", "PATCH replace"],
)
def test_a_group_is_no_member_of_itself(operation: records.Operation, body: Any) -> None:
    [outcome], writes = run([change(operation, 5, body, "Group")], stored(5, TEAM, "Group"))
    assert (outcome.status, outcome.scim_type) == (400, "invalidValue")
    assert not writes.memberships


def test_groups_may_hold_each_other_and_leave_each_other_when_they_are_deleted() -> None:
    def joining(number: int) -> list[dict[str, Any]]:
        return [{"op": "add", "path": "members", "value": [{"value": str(rid(number))}]}]

    groups = stored(5, TEAM, "Group"), stored(6, {"displayName": "Other"}, "Group")
    outcomes, writes = run(
        [change("patch", 5, joining(6), "Group"), change("patch", 6, joining(5), "Group")], *groups
    )
    assert [one.status for one in outcomes] == [200, 200]
    assert (member_rows(writes, 5).has(rid(6)), member_rows(writes, 6).has(rid(5))) == (True, True)
    outcomes, writes = run([change("delete", 5, kind="Group")], *groups, members={5: {6}, 6: {5}})
    assert outcomes[0].status == 204
    assert not member_rows(writes, 6).has(rid(5))
    assert {one.id: one.version for one in writes.updated} == {rid(6): 2}


def test_an_unknown_member_is_invalid_and_nothing_is_applied() -> None:
    # Field failure 7: not a 500, and named.
    patch = [{"op": "add", "path": "members", "value": [{"value": str(rid(1))}, {"value": str(rid(99))}]}]
    [outcome], writes = run([change("patch", 5, patch, "Group")], stored(1, ADA), stored(5, TEAM, "Group"))
    assert (outcome.status, outcome.scim_type) == (400, "invalidValue")
    assert str(rid(99)) in (outcome.detail or "")
    assert not writes.updated
    assert not writes.memberships


def test_a_member_created_in_the_same_batch_is_known() -> None:
    body = TEAM | {"members": [{"value": str(rid(1))}]}
    outcomes, writes = run([change("create", 1, ADA), change("create", 5, body, "Group")])
    assert [one.status for one in outcomes] == [201, 201]
    assert set(member_rows(writes, 5).overrides) == {rid(1)}


def test_deleting_a_user_takes_it_out_of_its_groups_also_of_those_joined_in_the_batch() -> None:
    patch = [{"op": "add", "path": "members", "value": [{"value": str(rid(1))}]}]
    outcomes, writes = run(
        [change("patch", 6, patch, "Group"), change("delete", 1)],
        stored(1, ADA), stored(5, TEAM, "Group"), stored(6, {"displayName": "Other"}, "Group"),
        members={5: {1, 2}},
    )  # fmt: skip
    assert [one.status for one in outcomes] == [200, 204]
    assert member_rows(writes, 5).overrides == {rid(1): None}
    assert not member_rows(writes, 6).has(rid(1))
    assert {one.id: one.version for one in writes.updated} == {rid(5): 2, rid(6): 3}


def test_deleting_a_group_removes_all_its_rows() -> None:
    _, writes = run([change("delete", 5, kind="Group")], stored(5, TEAM, "Group"), members={5: {1}})
    assert member_rows(writes, 5).replaced
    assert not member_rows(writes, 5).overrides


def test_the_wrong_endpoint_finds_nothing() -> None:
    outcomes, _ = run([change("delete", 5, kind="User")], stored(5, TEAM, "Group"))
    assert outcomes[0].status == 404


def test_changes_and_outcomes_survive_their_wire_form() -> None:
    sent = change("create", 1, ADA, if_match=(1, 2))
    assert records.Change.decode(sent.encode()) == sent
    outcome = records.Outcome(sent.change_id, 201, None, None, 1, EARLIER, NOW, {"schemas": []})
    for one in (outcome, dataclasses.replace(outcome, resource_id=rid(2))):
        assert records.Outcome.decode(one.encode()) == one


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'["x"]', b"\xff", b"[1,2,3,4,5,6,7,8,9,10]"])
def test_what_is_no_change_is_told_apart(data: bytes) -> None:
    with pytest.raises(ValueError):
        records.Change.decode(data)


# Reviving: Okta creates again a user that it deactivated (field failure 5).

GONE = {"userName": "ada@x.io", "externalId": "00u1", "active": False, "title": "Countess"}
WITHOUT = {"userName": "ada@x.io", "externalId": "00u1", "title": "Countess"}
BACK = {"userName": "ADA@x.io", "externalId": "00u1", "active": True}


@pytest.mark.parametrize("gone", [GONE, WITHOUT], ids=["inactive", "without the attribute"])
def test_an_inactive_user_is_revived_under_its_old_id_with_the_new_document_and_in_no_group(
    gone: dict[str, Any],
) -> None:
    [outcome], writes = run(
        [change("create", 9, BACK)],
        stored(1, gone, version=3), stored(5, TEAM, "Group"),
        members={5: {1, 2}},
    )  # fmt: skip
    assert (outcome.status, outcome.resource_id, outcome.version) == (201, rid(1), 4)
    assert (outcome.created_at, outcome.modified_at) == (EARLIER, NOW)
    assert outcome.document is not None
    assert outcome.document["userName"] == "ADA@x.io"
    assert outcome.document["active"] is True
    assert "title" not in outcome.document
    assert not writes.inserted
    assert {one.id: one.version for one in writes.updated} == {rid(1): 4, rid(5): 2}
    assert member_rows(writes, 5).overrides == {rid(1): None}


@pytest.mark.parametrize(
    ("held", "posted"),
    [
        pytest.param(GONE | {"active": True}, BACK, id="active"),
        pytest.param(GONE | {"externalId": "00U1"}, BACK, id="another externalId, by its case"),
        pytest.param({"userName": "ada@x.io", "active": False}, BACK, id="no externalId here"),
        pytest.param(GONE, {"userName": "ada@x.io", "active": True}, id="no externalId there"),
        pytest.param({"userName": "ada@x.io", "active": False}, {"userName": "ada@x.io"}, id="none at all"),
    ],
)
def test_any_other_namesake_is_a_409(held: dict[str, Any], posted: dict[str, Any]) -> None:
    [outcome], writes = run([change("create", 9, posted)], stored(1, held))
    assert (outcome.status, outcome.scim_type) == (409, "uniqueness")
    assert not writes.updated


def test_nobody_is_revived_where_the_tenant_does_not_want_it() -> None:
    [outcome], _ = run(
        [change("create", 9, BACK)], stored(1, GONE), policy=policies.Policy(revive_inactive=False)
    )
    assert outcome.status == 409


DEACTIVATE = [{"op": "replace", "path": "active", "value": False}]
LIVING = GONE | {"active": True}


@pytest.mark.parametrize(
    ("changes", "old"),
    [
        pytest.param([("patch", 1, DEACTIVATE)], LIVING, id="deactivated by PATCH"),
        pytest.param([("patch", 1, [{"op": "remove", "path": "active"}])], LIVING, id="active removed"),
        pytest.param([("replace", 1, GONE)], LIVING, id="deactivated by PUT"),
        pytest.param([("replace", 1, GONE)], LIVING | {"userName": "other@x.io"}, id="renamed by PUT"),
        pytest.param(
            [("patch", 1, [*DEACTIVATE, {"op": "replace", "path": "userName", "value": "ada@x.io"}])],
            LIVING | {"userName": "other@x.io"},
            id="renamed by PATCH",
        ),
    ],
)
def test_who_became_inactive_in_the_same_batch_is_revived_too(
    changes: list[tuple[Any, ...]], old: dict[str, Any]
) -> None:
    outcomes, writes = run(
        [*(change(*one) for one in changes), change("create", 9, BACK)],
        stored(1, old), stored(5, TEAM, "Group"),
        members={5: {1}},
    )  # fmt: skip
    assert [one.status for one in outcomes] == [200] * len(changes) + [201]
    assert outcomes[-1].resource_id == rid(1)
    assert member_rows(writes, 5).overrides == {rid(1): None}


def test_who_came_and_went_in_the_same_batch_is_revived_out_of_the_groups_joined_in_it() -> None:
    join = [{"op": "add", "path": "members", "value": [{"value": str(rid(1))}]}]
    outcomes, writes = run(
        [
            change("create", 1, LIVING),
            change("patch", 5, join, "Group"),
            change("patch", 1, DEACTIVATE),
            change("create", 9, BACK),
        ],
        stored(5, TEAM, "Group"),
    )
    assert [one.status for one in outcomes] == [201, 200, 200, 201]
    assert outcomes[-1].resource_id == rid(1)
    assert not member_rows(writes, 5).has(rid(1))


# Restoring: a deleted user is kept for a while.


def test_a_deleted_user_is_kept_as_it_was_last() -> None:
    title = [{"op": "add", "path": "title", "value": "Countess"}]
    _, writes = run([change("patch", 1, title), change("delete", 1)], stored(1, ADA))
    [kept] = writes.retained
    assert (kept.id, kept.version, kept.document["title"]) == (rid(1), 2, "Countess")
    assert [one.id for one in writes.deleted] == [rid(1)]


@pytest.mark.parametrize(
    ("one", "policy"),
    [
        pytest.param(stored(5, TEAM, "Group"), policies.Policy(), id="a group"),
        pytest.param(stored(5, ADA), policies.Policy(keep_deleted=False), id="where nothing is kept"),
    ],
)
def test_nothing_is_kept_of(one: snapshots.Stored, policy: policies.Policy) -> None:
    [outcome], writes = run([change("delete", 5, kind=one.type)], one, policy=policy)
    assert outcome.status == 204
    assert not writes.retained


def restore(left: snapshots.Stored) -> records.Change:
    made: records.Change = change("restore", left.id.int, left.document)
    return made


def test_a_restored_user_is_back_under_its_id_at_the_next_version() -> None:
    left = stored(1, ADA, version=7)
    [outcome], writes = run([restore(left)], deleted=(left,))
    assert (outcome.status, outcome.version, outcome.created_at) == (200, 8, EARLIER)
    assert [(one.id, one.document, one.created_at) for one in writes.inserted] == [
        (rid(1), left.document, EARLIER)
    ]
    assert writes.restored == [left]
    assert not writes.retained


def test_a_user_whose_name_was_taken_is_not_restored() -> None:
    left = stored(1, ADA)
    [outcome], writes = run([restore(left)], stored(2, ADA), deleted=(left,))
    assert (outcome.status, outcome.scim_type) == (409, "uniqueness")
    assert "userName" in (outcome.detail or "")
    assert (writes.inserted, writes.restored) == ([], [])


def test_a_user_is_restored_once() -> None:
    left = stored(1, ADA)
    outcomes, writes = run([restore(left), restore(left)], deleted=(left,))
    assert [one.status for one in outcomes] == [200, 404]
    assert len(writes.inserted) == 1


def test_what_was_deleted_again_in_another_form_is_not_restored_from_the_old_one() -> None:
    [outcome], writes = run([restore(stored(1, ADA))], deleted=(stored(1, ADA | {"title": "Countess"}),))
    assert outcome.status == 412
    assert not writes.inserted


def test_a_deletion_and_a_restoration_in_one_batch_keep_nothing_back() -> None:
    living = stored(1, ADA, version=2)
    outcomes, writes = run([change("delete", 1), restore(living)], living)
    assert [one.status for one in outcomes] == [204, 200]
    assert [(one.id, one.version) for one in writes.updated] == [(rid(1), 3)]
    assert (writes.deleted, writes.retained, writes.restored) == ([], [], [])


def test_a_restored_user_can_be_deleted_again_in_the_same_batch() -> None:
    left = stored(1, ADA)
    outcomes, writes = run([restore(left), change("delete", 1)], deleted=(left,))
    assert [one.status for one in outcomes] == [200, 204]
    assert writes.restored == [left]
    assert [(one.id, one.version) for one in writes.retained] == [(rid(1), 2)]
    assert (writes.inserted, writes.deleted) == ([], [])


# Actions: what the tenant leaves out is refused in the turn of the change.

RETIRED = ADA | {"active": False}
UPDATE, DEACTIVATION = {"UpdateUsers"}, {"DeactivateUsers"}


@pytest.mark.parametrize(
    ("actions", "before", "sent", "missing"),
    [
        pytest.param(DEACTIVATION, ADA, ("replace", RETIRED), None, id="PUT that only deactivates"),
        pytest.param(DEACTIVATION, ADA, ("replace", ADA), None, id="PUT that changes nothing"),
        pytest.param(
            DEACTIVATION, ADA, ("replace", ADA | {"title": "x"}), "UpdateUsers", id="PUT that changes"
        ),
        pytest.param(
            DEACTIVATION, ADA, ("replace", RETIRED | {"title": "x"}), "UpdateUsers", id="PUT that does both"
        ),
        pytest.param(DEACTIVATION, RETIRED, ("replace", ADA), "UpdateUsers", id="PUT that reactivates"),
        pytest.param(
            DEACTIVATION, ADA, ("patch", [{"op": "add", "path": "title", "value": "x"}]), "UpdateUsers",
            id="PATCH that changes",
        ),
        pytest.param(UPDATE, ADA, ("replace", RETIRED), "DeactivateUsers", id="PUT of false"),
        pytest.param(
            UPDATE, ADA, ("patch", [*DEACTIVATE, {"op": "add", "path": "title", "value": "x"}]),
            "DeactivateUsers", id="PATCH of both",
        ),
        pytest.param(UPDATE, RETIRED, ("replace", RETIRED | {"title": "x"}), None, id="PUT of one inactive"),
        pytest.param(UPDATE, RETIRED, ("replace", ADA), None, id="PUT that may reactivate"),
    ],
)  # fmt: skip
def test_a_change_of_a_user_takes_the_actions_that_it_needs(
    actions: set[str], before: dict[str, Any], sent: tuple[Any, Any], missing: str | None
) -> None:
    policy = policies.Policy(actions=frozenset(actions))
    operation, body = sent
    [outcome], writes = run([change(operation, 1, body)], stored(1, before), policy=policy)
    assert outcome.status == (200 if missing is None else 403)
    assert missing is None or missing in (outcome.detail or "")
    assert missing is None or not writes.updated


@pytest.mark.parametrize(
    ("held", "sent", "status"),
    [
        pytest.param("ada", {"userName": "ada", "active": False}, 200, id="an old name may stay"),
        pytest.param("ada", {"userName": "ADA"}, 400, id="and be changed only to an address"),
        pytest.param("ada", {"userName": "ada@x.io"}, 200, id="to an address"),
        pytest.param("ada@x.io", {"userName": "ada"}, 400, id="an address to another name"),
    ],
)
def test_a_new_name_must_be_an_address(held: str, sent: dict[str, Any], status: int) -> None:
    [outcome], _ = run([change("replace", 1, sent)], stored(1, {"userName": held}))
    assert outcome.status == status
    assert status == 200 or "userName" in (outcome.detail or "")
    [anyhow], _ = run(
        [change("replace", 1, sent)], stored(1, {"userName": held}), policy=policies.Policy(email_names=False)
    )
    assert anyhow.status == 200


def test_deleting_a_member_of_many_groups_costs_no_more_than_their_number() -> None:
    # Counted, not timed: each group's members are looked up, never all pairs again.
    class Counted(set[tuple[ids.ResourceId, ids.ResourceId]]):
        walks = 0

        def __iter__(self) -> Any:
            Counted.walks += 1
            return super().__iter__()

    groups = [stored(number, {"displayName": f"G{number}"}, "Group") for number in range(10, 60)]
    deletion = change("delete", 1)
    needs = snapshots.Needs()
    snapshots.ask(needs, REGISTRY, deletion)
    snapshot = snapshots.Snapshot(NOW, resources={one.id: one for one in (stored(1, ADA), *groups)})
    snapshot.left = {rid(1): {one.id for one in groups}}
    snapshot.pairs = Counted((one.id, rid(1)) for one in groups)
    unit = units.Unit(REGISTRY, snapshot)
    assert unit.apply(deletion).status == 204
    assert len(unit.writes().memberships) == len(groups)
    assert Counted.walks == 1


def together(
    changes: list[records.Change], *resources: snapshots.Stored
) -> tuple[list[records.Outcome] | records.Outcome, units.Writes]:
    """Create resources together; one outcome alone is the refusal."""
    ends: list[list[records.Outcome] | records.Outcome] = []

    class Together(units.Unit):
        def apply(self, change: records.Change) -> records.Outcome:
            if not ends:
                try:
                    ends.append(self.create_together(changes))
                except units.NoneCreated as exc:
                    ends.append(exc.outcome)
            return records.Outcome(change.change_id, 0)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(units, "Unit", Together)
        _, writes = run(changes, *resources)
    return ends[0], writes


def team_of(*numbers: int) -> dict[str, Any]:
    return {"displayName": "Team", "members": [{"value": str(rid(number))} for number in numbers]}


def test_groups_that_have_each_other_as_members_are_created_together() -> None:
    outcomes, writes = together([change("create", n, team_of(9 - n), "Group") for n in (4, 5)])
    assert isinstance(outcomes, list)
    assert [(one.status, one.version) for one in outcomes] == [(201, 1), (201, 1)]
    assert {one.id for one in writes.inserted} == {rid(4), rid(5)}
    assert list(member_rows(writes, 4).overrides) == [rid(5)]
    assert [one.outcome.status for one in writes.logged] == [201, 201]


@pytest.mark.parametrize(
    ("bodies", "status"),
    [
        pytest.param([(2, BOB), (4, team_of(5)), (5, team_of(4, 7))], 400, id="a member that nobody is"),
        pytest.param([(2, BOB), (3, ADA), (4, team_of(3))], 409, id="a name that is taken"),
        pytest.param([(2, BOB), (3, {"userName": "BOB@x.io"})], 409, id="a name that another takes"),
    ],
)
def test_of_resources_created_together_all_are_or_none(
    bodies: list[tuple[int, dict[str, Any]]], status: int
) -> None:
    changes = [change("create", n, body, "User" if "userName" in body else "Group") for n, body in bodies]
    refusal, writes = together(changes, stored(1, ADA))
    assert isinstance(refusal, records.Outcome)
    assert refusal.status == status
    assert writes == units.Writes()


def test_whom_a_circle_revives_is_referred_to_by_its_own_id() -> None:
    gone = ADA | {"externalId": "00u1", "active": False}
    new = [
        change("create", 2, BOB | {"title": str(rid(3))}),
        change("create", 3, ADA | {"externalId": "00u1", "title": str(rid(2))}),
        change("create", 4, team_of(2, 3), "Group"),
    ]
    outcomes, writes = together(new, stored(1, gone))
    assert isinstance(outcomes, list)
    assert [(one.status, one.resource_id) for one in outcomes] == [(201, None), (201, rid(1)), (201, None)]
    assert {one.id: one.document.get("title") for one in writes.inserted} == {
        rid(2): str(rid(1)),
        rid(4): None,
    }
    assert [one.version for one in writes.updated] == [2]
    assert set(member_rows(writes, 4).overrides) == {rid(1), rid(2)}


# Values that must be unique, by a schema of a tenant's own.

BADGE = "urn:example:lab:1.0:Badge"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        pytest.param("keys[type pr].value", "b", id="by presence"),
        pytest.param('keys[type ne "z"].value', "b", id="by another type"),
        pytest.param('keys[type sw "t"]', {"value": "b"}, id="within an element"),
        pytest.param('keys[not (type eq "z")].value', "b", id="by what does not hold"),
        pytest.param('keys[value eq "b"].type', "t", id="in the filter"),
        pytest.param("keys.value", "b", id="everywhere"),
        pytest.param("chip[label pr].code", "b", id="within a single value"),
        pytest.param("chip.code", "b", id="as a part of a single value"),
    ],
)
@pytest.mark.parametrize(("taken", "status"), [(False, 200), (True, 409)], ids=["free", "taken"])
def test_a_unique_value_is_guarded_whatever_path_it_comes_by(
    path: str, value: Any, *, taken: bool, status: int
) -> None:
    file = Path(__file__).parents[2] / "schemas" / "lab.json"
    lab = registries.build(registries.parse({file.name: file.read_bytes()}), 1)
    kind = lab.by_name("User")
    other = {"keys": [{"value": "B"}], "chip": {"code": "B"}} if taken else {"level": 1}
    held = [
        snapshots.Stored("User", rid(number), 1, documents.normalise(kind, body), EARLIER, EARLIER)
        for number, body in (
            (1, ADA | {BADGE: {"keys": [{"value": "a", "type": "t"}], "chip": {"code": "a", "label": "l"}}}),
            (2, BOB | {BADGE: other}),
        )
    ]
    message = {"Operations": [{"op": "replace", "path": f"{BADGE}:{path}", "value": value}]}
    body = patches.dump(patches.parse(message, kind))
    change_id = ids.ChangeId(ids.new_uuid())
    sent = records.Change(
        change_id, NOW, "patch", "User", rid(1), body, None, "t", "r", "", schemas_version=lab.version
    )
    store = stores.Store(lab, resources={one.id: one for one in held})
    [outcome] = store.apply([sent], NOW)
    assert (outcome.status, outcome.scim_type) == (status, "uniqueness" if taken else None)
