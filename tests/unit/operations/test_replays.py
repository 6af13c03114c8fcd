"""The changes of a resource, applied again out of the log, give what the store holds."""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usher_core import ids
from usher_core.changes import memberships, records, snapshots, units
from usher_core.operations import replays
from usher_core.scim import documents, patches, schemas
from usher_core.store import histories

REGISTRY = schemas.default()
START = datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC)
TENANT = ids.TenantId(uuid.UUID(int=1))


def rid(number: int) -> ids.ResourceId:
    return ids.ResourceId(uuid.UUID(int=number))


class Directory:
    """A little store that answers batches as PostgreSQL does, one change each, and keeps the log."""

    def __init__(self) -> None:
        self.resources: dict[ids.ResourceId, snapshots.Stored] = {}
        self.deleted: dict[ids.ResourceId, snapshots.Stored] = {}
        self.members: dict[ids.ResourceId, replays.Members] = {}
        self.log: list[histories.Entry] = []

    def apply(self, operation: Any, number: int, body: Any = None, kind: str = "User") -> records.Outcome:
        resource_type = REGISTRY.by_name(kind)
        if operation in ("create", "replace"):
            body = documents.normalise(resource_type, body)
        elif operation == "patch":
            body = patches.dump(patches.parse({"schemas": [], "Operations": body}, resource_type))
        moment = START + datetime.timedelta(seconds=len(self.log))
        change = records.Change(
            ids.ChangeId(ids.new_uuid()), moment, operation, kind, rid(number), body, None, "t", "r", ""
        )
        needs = snapshots.Needs()
        snapshots.ask(needs, REGISTRY, change)
        unit = units.Unit(REGISTRY, self._snapshot(needs, moment))
        outcome = unit.apply(change)
        self._write(unit.writes())
        self.log.append(
            histories.Entry(
                TENANT, moment, change.change_id, f"{len(self.log) + 1}-0", operation, kind,
                outcome.resource_id or change.resource_id, "t", "r", moment, outcome.status,
                version=outcome.version, body=body,
            )
        )  # fmt: skip
        return outcome

    def history(self, number: int, until: int | None = None) -> list[histories.Entry]:
        return [one for one in self.log[:until] if one.resource_id == rid(number) and one.state == "applied"]

    def departures(self) -> list[histories.Entry]:
        return [
            one
            for one in self.log
            if one.state == "applied"
            and (one.operation == "delete" or (one.operation == "create" and (one.version or 0) > 1))
        ]

    def _snapshot(self, needs: snapshots.Needs, now: datetime.datetime) -> snapshots.Snapshot:
        found = snapshots.Snapshot(now)
        found.deleted = {one: self.deleted[one] for one in needs.deleted if one in self.deleted}
        holders = {
            key: one.id
            for one in self.resources.values()
            for key in snapshots.unique_keys(REGISTRY.by_name(one.type), one.document)
        }
        found.owners = {key: holders.get(key) for key in needs.owners}
        pairs = {(group, member) for group, held in self.members.items() for member in held}
        found.pairs = needs.pairs & pairs
        found.targets = {one: self.resources[one].type for one in needs.targets if one in self.resources}
        found.counted = {one: len(self.members.get(one, ())) for one in needs.counted}
        namesakes = {holders[key] for key in needs.namesakes if key in holders}
        wanted = needs.resources | namesakes
        for member in needs.left | namesakes:
            found.left[member] = {group for group, one in pairs if one == member}
            wanted |= found.left[member]
            found.pairs |= {(group, member) for group in found.left[member]}
        found.resources = {one: self.resources[one] for one in wanted if one in self.resources}
        return found

    def _write(self, writes: units.Writes) -> None:
        for one in writes.deleted:
            del self.resources[one.id]
            self.members.pop(one.id, None)
        for one in (*writes.inserted, *writes.updated):
            self.resources[one.id] = one
        for one in writes.restored:
            del self.deleted[one.id]
        for one in writes.retained:
            self.deleted[one.id] = one
        for group, membership in writes.memberships.items():
            if group in self.resources:
                held = {} if membership.replaced else dict(self.members.get(group, {}))
                held |= {key: one for key, one in membership.overrides.items() if one is not None}
                gone = [key for key, one in membership.overrides.items() if one is None]
                self.members[group] = {key: one for key, one in held.items() if key not in gone}


USERS, GROUPS = (1, 2, 3), (11, 12)
NAMES = st.sampled_from(["ada@x.io", "bob@x.io", "ADA@x.io"])
USER_PATCHES = st.sampled_from(
    [
        {"op": "replace", "path": "active", "value": False},
        {"op": "replace", "path": "active", "value": True},
        {"op": "add", "path": "emails", "value": [{"value": "a@x.io", "type": "work"}]},
        {"op": "replace", "path": 'emails[type eq "work"].value', "value": "b@x.io"},
        {"op": "remove", "path": "title"},
        {"op": "replace", "value": {"title": "Countess", "name.givenName": "Ada"}},
        {"op": "replace", "path": "userName", "value": "eve@x.io"},
    ]
)
MEMBERS = st.lists(st.sampled_from(USERS + GROUPS).map(lambda one: {"value": str(rid(one))}), max_size=3)
GROUP_PATCHES = st.one_of(
    MEMBERS.map(lambda held: {"op": "add", "path": "members", "value": held}),
    MEMBERS.map(lambda held: {"op": "replace", "path": "members", "value": held}),
    st.sampled_from(USERS).map(lambda one: {"op": "remove", "path": f'members[value eq "{rid(one)}"]'}),
    st.just({"op": "remove", "path": "members"}),
    st.just({"op": "replace", "path": "displayName", "value": "Crew"}),
)
USER_BODIES = st.builds(
    lambda name, active, title: {
        "userName": name,
        "externalId": "00u1",
        "active": active,
        **({"title": title} if title else {}),
    },
    NAMES,
    st.booleans(),
    st.sampled_from(["", "Dr"]),
)
GROUP_BODIES = st.builds(
    lambda members, mention: {"displayName": "Team", **({"members": members} if mention else {})},
    MEMBERS,
    st.booleans(),
)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["create", "replace"]), st.sampled_from(USERS), USER_BODIES, st.just("User")),
    st.tuples(
        st.just("patch"),
        st.sampled_from(USERS),
        st.lists(USER_PATCHES, min_size=1, max_size=2),
        st.just("User"),
    ),
    st.tuples(st.just("delete"), st.sampled_from(USERS), st.none(), st.just("User")),
    st.tuples(st.just("restore"), st.sampled_from(USERS), st.none(), st.just("User")),
    st.tuples(
        st.sampled_from(["create", "replace"]), st.sampled_from(GROUPS), GROUP_BODIES, st.just("Group")
    ),
    st.tuples(
        st.just("patch"),
        st.sampled_from(GROUPS),
        st.lists(GROUP_PATCHES, min_size=1, max_size=2),
        st.just("Group"),
    ),
)


def lived(steps: list[tuple[Any, int, Any, str]]) -> Directory:
    directory = Directory()
    for operation, number, body, kind in steps:
        if operation == "create" and rid(number) in {**directory.resources, **directory.deleted}:
            continue  # ids are never given twice
        if operation == "restore":
            left = directory.deleted.get(rid(number))
            body = None if left is None else left.document
            if body is None:
                continue
        directory.apply(operation, number, body, kind)
    return directory


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=25))
def test_a_replay_of_the_log_gives_what_is_stored(steps: list[Any]) -> None:
    directory = lived(steps)
    for number in USERS + GROUPS:
        history = directory.history(number)
        if not history:
            continue
        effect = replays.replay(REGISTRY, history, directory.departures())
        stored = directory.resources.get(rid(number))
        assert (None if effect.after.stored is None else effect.after.stored.document) == (
            None if stored is None else stored.document
        )
        if number in GROUPS and stored is not None:
            left = {one.resource_id for one in directory.departures() if one.order > history[-1].order}
            assert effect.after.members is not None
            assert effect.after.members.keys() - left == directory.members.get(rid(number), {}).keys() - left


def shape(image: replays.Image) -> Any:
    return None if image.stored is None else (image.stored.version, image.stored.document)


@settings(max_examples=100, deadline=None)
@given(st.lists(STEPS, min_size=1, max_size=25))
def test_before_is_what_the_change_before_left(steps: list[Any]) -> None:
    directory = lived(steps)
    for number in USERS:
        history = directory.history(number)
        for end in range(2, len(history) + 1):
            effect = replays.replay(REGISTRY, history[:end])
            earlier = replays.replay(REGISTRY, history[: end - 1])
            assert effect.before is not None
            assert shape(effect.before) == shape(earlier.after)


ADA = {"userName": "ada@x.io", "externalId": "00u1", "active": True}


def test_a_replay_begins_at_the_last_whole_document() -> None:
    directory = Directory()
    directory.apply("create", 1, ADA)
    directory.apply("replace", 1, ADA | {"title": "Dr"})
    directory.apply("patch", 1, [{"op": "remove", "path": "title"}])
    history = directory.history(1)[1:]
    effect = replays.replay(REGISTRY, history)
    assert effect.before is not None
    assert effect.before.stored is not None
    assert effect.before.stored.document["title"] == "Dr"
    assert effect.after.stored is not None
    assert "title" not in effect.after.stored.document


def test_without_a_whole_document_nothing_is_told() -> None:
    directory = Directory()
    directory.apply("create", 1, ADA)
    directory.apply("patch", 1, [{"op": "add", "path": "title", "value": "Dr"}])
    with pytest.raises(replays.ReplayFailed, match="no longer in the log"):
        replays.replay(REGISTRY, directory.history(1)[1:])


def test_a_whole_document_alone_tells_nothing_of_before() -> None:
    directory = Directory()
    directory.apply("create", 1, ADA)
    directory.apply("replace", 1, ADA | {"title": "Dr"})
    effect = replays.replay(REGISTRY, directory.history(1)[1:])
    assert effect.before is None
    assert effect.after.stored is not None
    assert effect.after.stored.document["title"] == "Dr"


def test_a_log_with_a_gap_is_not_believed() -> None:
    directory = Directory()
    directory.apply("create", 1, ADA)
    directory.apply("patch", 1, [{"op": "add", "path": "title", "value": "Dr"}])
    directory.apply("patch", 1, [{"op": "add", "path": "nickName", "value": "A"}])
    history = directory.history(1)
    with pytest.raises(replays.ReplayFailed, match="contradicts itself"):
        replays.replay(REGISTRY, [history[0], history[2]])


def test_members_before_a_replacement_that_names_none_are_unknown() -> None:
    directory = Directory()
    directory.apply("create", 1, ADA)
    directory.apply("create", 11, {"displayName": "Team", "members": [{"value": str(rid(1))}]}, "Group")
    directory.apply("replace", 11, {"displayName": "Crew"}, "Group")
    directory.apply(
        "patch", 11, [{"op": "add", "path": "members", "value": [{"value": str(rid(1))}]}], "Group"
    )
    effect = replays.replay(REGISTRY, directory.history(11)[1:])
    assert effect.before is not None
    assert (effect.before.members, effect.after.members) == (None, None)


def test_a_deleted_member_has_left_before_the_next_change_of_the_group() -> None:
    directory = Directory()
    for number, name in ((1, "ada@x.io"), (2, "bob@x.io")):
        directory.apply("create", number, ADA | {"userName": name})
    both = [{"value": str(rid(1))}, {"value": str(rid(2))}]
    directory.apply("create", 11, {"displayName": "Team", "members": both}, "Group")
    directory.apply("delete", 1)
    directory.apply("patch", 11, [{"op": "replace", "path": "displayName", "value": "Crew"}], "Group")
    effect = replays.replay(REGISTRY, directory.history(11), directory.departures())
    assert effect.before is not None
    assert effect.before.members is not None
    assert set(effect.before.members) == {rid(2)}


def test_operations_of_a_bulk_stand_in_the_order_of_the_versions() -> None:
    bulk = ids.ChangeId(uuid.UUID(int=9))
    entry = histories.Entry(
        TENANT, START, bulk, "1-0", "patch", "User", rid(1), "", "", START, 200, bulk_id=bulk
    )
    listed = [
        dataclasses.replace(entry, operation="delete", version=None, bulk_index=0),
        dataclasses.replace(entry, version=2, bulk_index=1),
        dataclasses.replace(entry, operation="create", version=1, bulk_index=2),
    ]
    assert [one.bulk_index for one in sorted(listed, key=lambda one: one.order)] == [2, 1, 0]


def test_the_ids_that_a_groups_changes_name_are_found() -> None:
    directory = Directory()
    directory.apply("create", 1, ADA)
    directory.apply("create", 11, {"displayName": "T", "members": [{"value": str(rid(1))}]}, "Group")
    directory.apply("patch", 11, [{"op": "remove", "path": f'members[value eq "{rid(2)}"]'}], "Group")
    assert replays.mentioned(REGISTRY, directory.history(11)) == {rid(1), rid(2)}
    assert memberships.Member(rid(1), "User", None) in directory.members[rid(11)].values()
