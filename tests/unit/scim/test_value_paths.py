"""What a PATCH does to a part of a value, under the schemas of a tenant: sub-attributes, and elements."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from usher_core import errors
from usher_core.scim import contradictions, documents, looks, patches, registries, schemas

FILE = Path(__file__).parents[2] / "schemas" / "lab.json"
LAB = registries.build(registries.parse({FILE.name: FILE.read_bytes()}), 1)
USER, SAMPLE = LAB.by_name("User"), LAB.by_name("Sample")
BADGE = "urn:example:lab:1.0:Badge"
ENTERPRISE = schemas.ENTERPRISE_USER


def sample(**attributes: Any) -> dict[str, Any]:
    return documents.normalise(SAMPLE, {"displayName": "s", "rooms": ["r"]} | attributes)


def user(badge: dict[str, Any] | None = None, **attributes: Any) -> dict[str, Any]:
    return documents.normalise(USER, {"userName": "ada", BADGE: {"level": 1} | (badge or {})} | attributes)


def applied(
    document: dict[str, Any], *operations: dict[str, Any], kind: schemas.ResourceType = SAMPLE
) -> dict[str, Any]:
    """Apply operations as they travel, twice; what comes out a client could have sent."""
    before = copy.deepcopy(document)
    parsed = patches.parse({"Operations": list(operations)}, kind)
    travelled = patches.load(json.loads(json.dumps(patches.dump(parsed))), kind)
    once = patches.apply(kind, document, travelled).document
    assert document == before, "the input was changed"
    assert documents.normalise(kind, once) == once, "the result is not in the stored form"
    assert contradictions.find(kind, once) == []
    assert patches.apply(kind, once, travelled).document == once, "applied again, it changed something"
    return once


def operation(op: str, path: str, *value: Any) -> dict[str, Any]:
    return {"op": op, "path": path} | ({"value": value[0]} if value else {})


# Lists within a value.

RACK = {"value": "a", "type": "t", "tags": ["a"]}
SLOT = {"place": "p", "tags": ["a", "b"]}


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        pytest.param(operation("add", "rack.tags", ["b", "A"]), ["a", "b"], id="an add appends"),
        pytest.param(operation("add", "rack.tags", "b"), ["a", "b"], id="an add of one value"),
        pytest.param(operation("add", "rack", {"tags": ["b"]}), ["a", "b"], id="an add within the whole"),
        pytest.param({"op": "add", "value": {"rack.tags": ["b"]}}, ["a", "b"], id="an add without a path"),
        pytest.param(operation("add", 'rack[type eq "t"].tags', ["b"]), ["a", "b"], id="an add by a filter"),
        pytest.param(
            operation("add", 'rack[type eq "t"]', {"tags": ["b"]}), ["a", "b"], id="an add to the one chosen"
        ),
        pytest.param(operation("replace", "rack.tags", ["b"]), ["b"], id="a replace replaces"),
        pytest.param(operation("replace", "rack", {"tags": ["b"]}), ["b"], id="a replace within the whole"),
        pytest.param(operation("replace", "rack.tags", []), None, id="a replace by nothing"),
        pytest.param(operation("remove", "rack.tags", ["zz"]), ["a"], id="a remove of what is not there"),
        pytest.param(operation("remove", "rack.tags", ["A"]), None, id="a remove of what is listed"),
        pytest.param(
            operation("remove", 'rack[type eq "t"].tags', "a"), None, id="a remove of one, by a filter"
        ),
        pytest.param(operation("remove", "rack.tags", [7]), ["a"], id="a remove of what can't be there"),
        pytest.param(operation("remove", "rack.tags", []), ["a"], id="a remove of an empty list"),
        pytest.param(operation("remove", "rack.tags"), None, id="a remove of all"),
        pytest.param(operation("remove", "rack.tags", None), None, id="a remove of null is one of all"),
    ],
)
def test_a_list_within_a_value_is_changed_like_any_list(
    given: dict[str, Any], tags: list[str] | None
) -> None:
    expected = {name: value for name, value in (RACK | {"tags": tags}).items() if value is not None}
    assert applied(sample(rack=RACK), given)["rack"] == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(
            operation("add", 'slots[place eq "p"].tags', ["c"]),
            [SLOT | {"tags": ["a", "b", "c"]}, {"tags": ["z"]}],
            id="an add by a filter",
        ),
        pytest.param(
            operation("add", "slots.tags", ["c"]),
            [SLOT | {"tags": ["a", "b", "c"]}, {"tags": ["z", "c"]}],
            id="an add to each",
        ),
        pytest.param(
            operation("remove", "slots.tags", ["b", "z"]),
            [{"place": "p", "tags": ["a"]}],
            id="a remove from each",
        ),
        pytest.param(
            operation("remove", 'slots[place eq "p"].tags', ["b"]),
            [{"place": "p", "tags": ["a"]}, {"tags": ["z"]}],
            id="a remove by a filter",
        ),
        pytest.param(
            operation("add", 'slots[tags eq "z"].tags', ["c"]), [SLOT, {"tags": ["z", "c"]}], id="by itself"
        ),
        pytest.param(
            operation("add", 'slots[tags eq "q"].tags', ["c"]),
            [SLOT, {"tags": ["z"]}, {"tags": ["q", "c"]}],
            id="an add to what the filter describes",
        ),
        pytest.param(
            operation("add", 'slots[tags eq "q"].level', 1),
            [SLOT, {"tags": ["z"]}, {"tags": ["q"], "level": 1}],
            id="what a filter describes of a list is a list",
        ),
    ],
)
def test_lists_within_the_values_of_a_list(given: dict[str, Any], expected: list[Any]) -> None:
    assert applied(sample(slots=[SLOT, {"tags": ["z"]}]), given)["slots"] == expected


def test_an_add_of_a_value_that_is_there_appends_to_its_lists() -> None:
    held = user({"keys": [{"value": "k", "type": "t", "tags": ["a"]}]})
    given = operation("add", f"{BADGE}:keys", [{"value": "K", "type": "t", "tags": ["b"]}])
    assert applied(held, given, kind=USER)[BADGE]["keys"] == [{"value": "K", "type": "t", "tags": ["a", "b"]}]


def test_a_list_within_a_value_grows_to_the_limit_of_every_list() -> None:
    full = [f"{number}" for number in range(1000)]
    for document, path in (
        (sample(rack={"tags": full}), "rack.tags"),
        (sample(slots=[{"place": "p", "tags": full}]), "slots.tags"),
    ):
        assert applied(document, operation("add", path, ["999"])) == document
        with pytest.raises(errors.InvalidValue, match=f"{path} has more than 1000 values"):
            applied(document, operation("add", path, ["1000"]))
    badge = user({"chip": {"label": "l", "tags": full}})
    with pytest.raises(errors.InvalidValue, match=f"{BADGE}:chip.tags has more than 1000 values"):
        applied(badge, operation("add", f"{BADGE}:chip.tags", ["1000"]), kind=USER)


def test_lists_within_values_count_among_what_a_patch_looks_at() -> None:
    held = sample(slots=[{"place": f"{n}", "tags": [f"{tag}" for tag in range(100)]} for n in range(100)])
    assert len(applied(held, operation("add", "slots.tags", ["x"]))["slots"][99]["tags"]) == 101
    with pytest.raises(errors.InvalidValue, match=f"more than {looks.MAX_LOOKS} looks"):
        applied(held, *[operation("add", "slots.tags", [f"x{n}"]) for n in range(5)])
    to_each = operation("add", "slots.tags", [f"x{n}" for n in range(40)])
    wide = sample(slots=[{"place": f"{n}", "tags": ["a"]} for n in range(1000)])
    with pytest.raises(errors.InvalidValue, match=f"more than {looks.MAX_LOOKS} looks"):
        patches.apply(SAMPLE, wide, patches.parse({"Operations": [to_each]}, SAMPLE))


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(operation("add", f"{BADGE}:keys", [{"type": "u", "primary": True}]), id="by an add"),
        pytest.param(operation("add", f'{BADGE}:keys[type eq "u"].primary', True), id="by a filter"),
    ],
)
def test_values_that_only_the_primary_one_was_told_by_are_one_without_it(given: dict[str, Any]) -> None:
    held = user({"keys": [{"type": "t", "primary": False}, {"type": "t", "primary": True}]})
    expected = [{"type": "t", "primary": False}, {"type": "u", "primary": True}]
    assert applied(held, given, kind=USER)[BADGE]["keys"] == expected


# The value of a value.


@pytest.mark.parametrize(
    ("given", "rack"),
    [
        pytest.param(operation("replace", "rack.value", "b"), RACK | {"value": "b"}, id="another value"),
        pytest.param(operation("add", "rack", {"value": "b"}), RACK | {"value": "b"}, id="within the whole"),
        pytest.param(
            operation("replace", 'rack[value eq "a"].value', "b"), RACK | {"value": "b"}, id="by a filter"
        ),
        pytest.param(operation("remove", "rack.value"), {"type": "t", "tags": ["a"]}, id="none"),
        pytest.param(operation("replace", "rack.value", ""), None, id="an empty one, as in a body"),
        pytest.param(operation("replace", "rack[tags pr].value", ""), None, id="an empty one by a filter"),
    ],
)
def test_a_value_that_refers_to_nothing_is_one_part_among_others(given: Any, rack: Any) -> None:
    assert applied(sample(rack=RACK), given).get("rack") == rack


@pytest.mark.parametrize(
    ("given", "deputy"),
    [
        pytest.param(operation("replace", f"{BADGE}:deputy.value", "v"), {"value": "v"}, id="another"),
        pytest.param(
            operation("replace", f'{BADGE}:deputy[value eq "u"].value', "v"), {"value": "v"}, id="by a filter"
        ),
        pytest.param(operation("remove", f"{BADGE}:deputy.value"), None, id="none"),
        pytest.param(
            operation("remove", f'{BADGE}:deputy[value eq "u"].value'), None, id="none, by a filter"
        ),
        pytest.param(
            operation("replace", f'{BADGE}:deputy[value eq "u"].value', ""), None, id="an empty one"
        ),
    ],
)
def test_what_is_known_of_another_resource_is_not_kept_of_this_one(given: Any, deputy: Any) -> None:
    held = user({"deputy": {"value": "u", "$ref": "https://h/Users/u"}})
    assert applied(held, given, kind=USER)[BADGE].get("deputy") == deputy


# Elements that a filter describes.


@pytest.mark.parametrize(
    ("given", "made"),
    [
        pytest.param(
            operation("replace", "slots[level eq 7].place", "p"), {"level": 7, "place": "p"}, id="an integer"
        ),
        pytest.param(
            operation("add", 'slots[page eq "https://x.io"].level', 1),
            {"page": "https://x.io", "level": 1},
            id="a reference",
        ),
        pytest.param(
            operation("add", 'slots[level eq 7 and place eq "p"]', {"tags": ["t"], "place": "P"}),
            {"level": 7, "place": "P", "tags": ["t"]},
            id="what is given says it in its own way",
        ),
    ],
)
def test_an_element_is_made_of_what_its_filter_asks_for(given: Any, made: Any) -> None:
    assert applied(sample(), given)["slots"] == [made]


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        pytest.param(operation("replace", 'manager[displayName eq "Boss"].value', "u"), USER, id="read-only"),
        pytest.param(
            operation("add", f'{BADGE}:keys[type eq "t" and state eq "s"].value', "k"),
            USER,
            id="also read-only",
        ),
        pytest.param(operation("add", 'photos[value eq "not a <uri>"].type', "t"), USER, id="no URI"),
        pytest.param(operation("add", 'x509Certificates[value eq "!!!"].type', "t"), USER, id="no base64"),
        pytest.param(operation("add", 'slots[page eq "x"].level', 1), SAMPLE, id="no such reference"),
        pytest.param(operation("add", f"slots[level eq {2**63}].place", "p"), SAMPLE, id="too large"),
        pytest.param(operation("add", 'doses[value eq " "].type', "t"), SAMPLE, id="blank, but required"),
        pytest.param(operation("add", 'rack[value eq ""].type', "t"), SAMPLE, id="a value that is none"),
        pytest.param(
            operation("add", "slots[level eq 1 and level eq 2].place", "p"), SAMPLE, id="two values"
        ),
        pytest.param(
            operation("replace", 'slots[place eq "p"].place', "q"), SAMPLE, id="another part than it asks for"
        ),
        pytest.param(
            operation("add", 'slots[place eq "p"]', {"place": "q", "level": 1}),
            SAMPLE,
            id="another element than it asks for",
        ),
        pytest.param(
            operation("add", 'rooms[value eq "p"]', "q"), SAMPLE, id="another value than it asks for"
        ),
        pytest.param(operation("replace", 'rack[value eq "a"].value', "b"), SAMPLE, id="of a single value"),
    ],
)
def test_an_element_that_its_filter_would_not_find_is_not_made(
    given: Any, kind: schemas.ResourceType
) -> None:
    with pytest.raises((errors.NoTarget, errors.InvalidFilter)):
        applied(user() if kind is USER else sample(), given, kind=kind)


ADDRESSES = [{"type": "work", "country": "DE"}, {"type": "home", "country": "US"}]


@pytest.mark.parametrize(
    ("held", "given", "expected"),
    [
        pytest.param(
            {"addresses": ADDRESSES},
            operation("replace", 'addresses[country eq "DE"].country', "FR"),
            {"addresses": [{"type": "work", "country": "FR"}, ADDRESSES[1]]},
            id="a part",
        ),
        pytest.param(
            {"addresses": ADDRESSES},
            operation("replace", 'addresses[country ne "US"].country', "US"),
            {"addresses": [{"type": "work", "country": "US"}, ADDRESSES[1]]},
            id="a part, by another operator",
        ),
        pytest.param(
            {"addresses": ADDRESSES},
            operation("replace", 'addresses[country eq "DE"]', {"country": "FR", "locality": "P"}),
            {"addresses": [{"country": "FR", "locality": "P"}, ADDRESSES[1]]},
            id="an element",
        ),
        pytest.param(
            {"addresses": ADDRESSES},
            operation("add", 'addresses[country eq "DE"]', {"country": None, "type": "WORK"}),
            {"addresses": [{"type": "WORK"}, ADDRESSES[1]]},
            id="an element, in part unassigned",
        ),
        pytest.param(
            {"emails": [{"value": "a@x.io", "type": "work", "display": "A"}]},
            operation("replace", 'emails[value eq "a@x.io"].value', "b@x.io"),
            {"emails": [{"value": "b@x.io", "type": "work", "display": "A"}]},
            id="a value",
        ),
        pytest.param(
            {"emails": [{"value": "A@x.io", "type": "work"}, {"value": "a@x.io", "type": "home"}]},
            operation("replace", 'emails[type eq "work"].type', "HOME"),
            {"emails": [{"value": "a@x.io", "type": "home"}]},
            id="a part by which it becomes another's double",
        ),
        pytest.param(
            {BADGE: {"tags": ["a", "b"]}},
            operation("replace", f'{BADGE}:tags[value eq "A"]', "c"),
            {BADGE: {"tags": ["c", "b"]}},
            id="a value that is no object",
        ),
        pytest.param(
            {BADGE: {"chip": {"code": "c", "label": "l"}}},
            operation("replace", f'{BADGE}:chip[code eq "c"].code', "d"),
            {BADGE: {"chip": {"code": "d", "label": "l"}}},
            id="a single value",
        ),
        pytest.param(
            {BADGE: {"deputy": {"value": "u", "$ref": "https://h/Users/u"}}},
            operation("replace", f'{BADGE}:deputy[$ref eq "https://h/Users/u"].value', "v"),
            {BADGE: {"deputy": {"value": "v"}}},
            id="another resource, of which it asks for what is gone",
        ),
    ],
)
def test_what_its_filter_finds_no_more_is_not_changed_again(held: Any, given: Any, expected: Any) -> None:
    # `applied` sends it twice.
    document = documents.normalise(USER, {"userName": "ada", BADGE: {"level": 1}} | held)
    assert applied(document, given, kind=USER) == documents.normalise(
        USER, {"userName": "ada", BADGE: {"level": 1}} | expected
    )


def test_what_is_there_under_another_filter_is_no_target() -> None:
    held = user(addresses=ADDRESSES)
    with pytest.raises(errors.NoTarget):
        applied(held, operation("replace", 'addresses[country eq "CH"].country', "FR"), kind=USER)


def test_a_part_of_what_is_not_there_is_taken_away_without_effect() -> None:
    held = user(addresses=ADDRESSES)
    for op, value in (
        ("add", {"country": None}),
        ("replace", {"country": None}),
        ("add", {"locality": None}),
    ):
        assert applied(held, operation(op, 'addresses[country eq "CH"]', value), kind=USER) == held


def test_a_replaced_element_keeps_what_the_filter_asks_for_as_it_was() -> None:
    held = sample(doses=[{"value": "a", "type": "Left", "batches": ["b"]}])
    given = operation("replace", 'doses[type eq "LEFT"]', {"value": "b", "batches": ["c"]})
    assert applied(held, given)["doses"] == [{"value": "b", "type": "Left", "batches": ["c"]}]


def test_a_role_that_is_json_in_a_string_is_read_where_it_is_set_alone() -> None:
    packed = '{"id":"r","value":"Admin","displayName":"Admin"}'
    given = operation("add", 'roles[primary eq "True"].value', packed)
    assert applied(user(), given, kind=USER)["roles"] == [{"primary": True, "value": "Admin"}]
    with pytest.raises(errors.NoTarget):
        applied(user(), operation("add", f"roles[value eq {json.dumps(packed)}].type", "t"), kind=USER)


# What a part must have.


@pytest.mark.parametrize(
    ("given", "error"),
    [
        pytest.param(
            operation("remove", "doses.batches", ["b"]), errors.MutabilityViolated, id="the last one"
        ),
        pytest.param(
            operation("remove", 'doses[value eq "a"].batches', "B"),
            errors.MutabilityViolated,
            id="by a filter",
        ),
        pytest.param(
            operation("add", 'doses[value eq "a"]', {"batches": None}), errors.MutabilityViolated, id="null"
        ),
        pytest.param(
            operation("replace", 'doses[value eq "a"]', {"type": "t", "value": None}),
            errors.MutabilityViolated,
            id="null in a replace",
        ),
        pytest.param(operation("replace", "doses.value", " "), errors.InvalidValue, id="a blank"),
        pytest.param(
            operation("replace", 'doses[value eq "a"]', {"type": "t"}), errors.InvalidValue, id="not given"
        ),
        pytest.param(
            operation("add", 'doses[value eq "z"].type', "t"), errors.InvalidValue, id="nor described"
        ),
    ],
)
def test_a_part_that_is_required_stays(given: Any, error: type[errors.ScimError]) -> None:
    with pytest.raises(error, match="required"):
        applied(sample(doses=[{"value": "a", "batches": ["b"]}]), given)


def test_of_a_required_list_within_a_value_all_but_the_last_may_go() -> None:
    held = sample(doses=[{"value": "a", "batches": ["b", "c"]}, {"value": "d", "batches": ["e"]}])
    assert applied(held, operation("remove", "doses.batches", ["b"]))["doses"][0]["batches"] == ["c"]


# Extensions.


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(operation("remove", f"{BADGE}:level"), id="the last attribute"),
        pytest.param(operation("remove", BADGE), id="all of it"),
        pytest.param(operation("replace", BADGE, {"level": None}), id="null"),
        pytest.param({"op": "replace", "value": {BADGE: {"level": None}}}, id="null without a path"),
    ],
)
def test_what_is_left_of_a_required_extension_can_t_be_removed(given: dict[str, Any]) -> None:
    with pytest.raises(errors.MutabilityViolated, match=f"{BADGE} is required"):
        applied(user(), given, kind=USER)
    assert BADGE not in applied(sample(**{BADGE: {"level": 1}}), given, kind=SAMPLE)


def test_the_last_attribute_of_a_required_extension_may_give_way_to_another() -> None:
    given = [operation("remove", f"{BADGE}:level"), operation("add", f"{BADGE}:tags", ["a"])]
    assert applied(user(), *given, kind=USER)[BADGE] == {"tags": ["a"]}


def test_whom_a_required_extension_came_too_late_for_can_be_changed() -> None:
    held = {name: value for name, value in user().items() if name != BADGE}
    title = patches.parse({"Operations": [operation("add", "title", "T")]}, USER)
    assert patches.apply(USER, held, title).document["title"] == "T"


# What an operation could bring.


@pytest.mark.parametrize(
    ("given", "values"),
    [
        pytest.param(operation("replace", f"{BADGE}:keys[type pr].value", "k"), ["k"], id="present"),
        pytest.param(operation("replace", f'{BADGE}:keys[type ne "z"].value', "k"), ["k"], id="unequal"),
        pytest.param(operation("add", f'{BADGE}:keys[type sw "z"]', {"value": "k"}), ["k"], id="an object"),
        pytest.param(operation("add", f'{BADGE}:keys[not (type eq "z")]', "k"), ["k"], id="a string"),
        pytest.param(operation("add", f'{BADGE}:keys[value eq "k"].type', "t"), ["k"], id="of the filter"),
        pytest.param(operation("add", f"{BADGE}:keys.value", "k"), ["k"], id="everywhere"),
        pytest.param(operation("add", f"{BADGE}:keys", ["k", {"value": "l"}]), ["k", "l"], id="a list"),
        pytest.param(
            operation("replace", f"{BADGE}:chip[label pr].code", "k"), ["k"], id="of a single value"
        ),
        pytest.param(operation("replace", f"{BADGE}:chip.code", "k"), ["k"], id="a part"),
        pytest.param(operation("replace", f"{BADGE}:chip", {"code": "k"}), ["k"], id="an object of one"),
        pytest.param(operation("replace", "userName", "k"), ["k"], id="a text"),
        pytest.param(operation("remove", f'{BADGE}:keys[value eq "k"]'), [], id="a remove"),
        pytest.param(operation("remove", f"{BADGE}:keys", ["k"]), [], id="a remove of what is listed"),
        pytest.param(operation("add", f'{BADGE}:keys[type eq "k"].tags', ["k"]), [], id="nothing unique"),
    ],
)
def test_every_unique_value_that_an_operation_could_bring_is_told(given: Any, values: list[str]) -> None:
    [read] = patches.parse({"Operations": [given]}, USER)
    brought = patches.brought(USER, read)
    assert [folded for _, folded in documents.unique_values(USER, brought.document)] == values
    assert brought.member_operations == ()
