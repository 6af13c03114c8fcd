"""What would take long is refused in words, and what is read takes time in proportion to its size."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from usher_api import requests
from usher_core import errors
from usher_core.scim import (
    documents,
    evaluations,
    filters,
    members,
    patches,
    paths,
    projections,
    schemas,
    weights,
)

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
ENOUGH = 2.0  # seconds; without the limit, or with what grew with the square, each of these took minutes


def user(**more: Any) -> dict[str, Any]:
    return {"userName": "a"} | more


def parse(*operations: Any, kind: schemas.ResourceType = USER) -> tuple[patches.Operation, ...]:
    return patches.parse({"Operations": list(operations)}, kind)


def add(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def emails(count: int) -> list[dict[str, str]]:
    return [{"value": f"{number}@x.io", "type": "work"} for number in range(count)]


ESCAPED = r"\u0301" * 31
LONG_FILTER = " or ".join(['value co "zz"'] * 45)
UNKNOWN = {f"k{number}": 1 for number in range(10_001)}
MARKS = "a" + "\u0301\u0316" * 15 + "\u0301"  # one more than may follow each other


@pytest.mark.parametrize(
    ("read", "error", "named"),
    [
        pytest.param(
            lambda: parse({"op": "add", "value": UNKNOWN}),
            errors.InvalidValue,
            "more than 10000 values",
            id="unknown attributes of a PATCH",
        ),
        pytest.param(
            lambda: parse({"op": "add", "value": {schemas.ENTERPRISE_USER: UNKNOWN}}),
            errors.InvalidValue,
            "more than 10000 values",
            id="unknown attributes of an extension",
        ),
        pytest.param(
            lambda: parse(*[add("roles", ["a"] * 101)] * 100),
            errors.InvalidValue,
            "more than 10000 values",
            id="values of all operations together",
        ),
        pytest.param(
            lambda: parse(*[add("title", "a")] * 501),
            errors.InvalidValue,
            "at most 500 operations",
            id="operations",
        ),
        pytest.param(
            lambda: parse({"op": "add", "value": {"title": "a", "TITLE": "b"}}, *[add("title", "a")] * 499),
            errors.InvalidValue,
            "at most 500 attributes",
            id="attributes of all operations",
        ),
        pytest.param(
            lambda: parse(*[{"op": "remove", "path": f"emails[value eq {'x' * 100}]"}] * 300),
            errors.InvalidValue,
            "filters of the operations",
            id="filters of all operations",
        ),
        pytest.param(
            lambda: parse({"op": "add", "value": {f"emails[value eq {'x' * 5000}{n}]": 1 for n in range(7)}}),
            errors.InvalidValue,
            "filters of the operations",
            id="filters without a path",
        ),
        pytest.param(
            lambda: parse(add("emails", emails(1001))),
            errors.InvalidValue,
            "emails has more than 1000",
            id="values added to a list",
        ),
        pytest.param(
            lambda: parse({"op": "remove", "path": "emails", "value": emails(1001)}),
            errors.InvalidValue,
            "emails has more than 1000",
            id="values removed from a list",
        ),
        pytest.param(
            lambda: documents.normalise(USER, user(roles=["a"] * 1001)),
            errors.InvalidValue,
            "roles has more than 1000",
            id="values that are all the same",
        ),
        pytest.param(
            lambda: documents.normalise(USER, user(schemas=["a"] * 1001)),
            errors.InvalidValue,
            "schemas has more than 1000",
            id="schemas",
        ),
        pytest.param(
            lambda: documents.normalise(GROUP, {"displayName": "d", "members": ["a"] * 22_001}),
            errors.InvalidValue,
            "members: more than 22000",
            id="members",
        ),
        pytest.param(
            lambda: parse(*[add("members", ["a"] * 2201)] * 10, kind=GROUP),
            errors.InvalidValue,
            "more than 22000",
            id="members of all operations",
        ),
        pytest.param(
            lambda: parse(
                *[{"op": "remove", "path": f"{schemas.GROUP}:MEMBERS", "value": [1] * 2201}] * 10, kind=GROUP
            ),
            errors.InvalidValue,
            "more than 22000",
            id="members to be removed, none of them good",
        ),
        pytest.param(
            lambda: documents.normalise(USER, user(title=MARKS)),
            errors.InvalidValue,
            "title holds more than 30 combining marks",
            id="marks in a value",
        ),
        pytest.param(
            lambda: documents.normalise(
                GROUP, {"displayName": "d", "members": [{"value": "u", "display": MARKS}]}
            ),
            errors.InvalidValue,
            "members.display holds more than 30 combining marks",
            id="marks in a member",
        ),
        pytest.param(
            lambda: documents.normalise(USER, user(title="a" + "\u0f73" * 16)),
            errors.InvalidValue,
            "more than 30 combining marks",
            id="marks that are two",
        ),
        pytest.param(
            lambda: filters.parse(f'title eq "{MARKS}"', USER),
            errors.InvalidFilter,
            "more than 30 combining marks",
            id="marks in a filter",
        ),
        pytest.param(
            lambda: filters.parse(f'title eq "a{ESCAPED}"', USER),
            errors.InvalidFilter,
            "title has more than 30 combining marks",
            id="escaped marks in a filter",
        ),
        pytest.param(
            lambda: paths.parse(f'emails[value eq "{MARKS}"]', USER),
            errors.InvalidPath,
            "more than 30 combining marks",
            id="marks in a path",
        ),
        pytest.param(
            lambda: projections.parse("id," * 3000, None, USER),
            errors.InvalidValue,
            "attributes is longer than 8192",
            id="attributes to show",
        ),
        pytest.param(
            lambda: projections.parse(None, "id," * 3000, USER),
            errors.InvalidValue,
            "excludedAttributes is longer than 8192",
            id="attributes to leave out",
        ),
        pytest.param(
            lambda: requests.read_json(b"[" + b"[]," * 60_000 + b"[]]"),
            errors.InvalidSyntax,
            "more than 60000 lists and objects",
            id="lists in JSON",
        ),
        pytest.param(
            lambda: requests.read_json(b"[" + b"{}," * 60_000 + b"{}]"),
            errors.InvalidSyntax,
            "more than 60000 lists and objects",
            id="objects in JSON",
        ),
        pytest.param(
            lambda: requests.read_json(b"[" + b"1," * 100_000 + b"1]"),
            errors.InvalidSyntax,
            "more than 100000 values",
            id="values in JSON",
        ),
    ],
)
def test_more_than_the_limit_is_refused(
    read: Callable[[], Any], error: type[errors.ScimError], named: str
) -> None:
    with pytest.raises(error, match=named):
        read()


@pytest.mark.parametrize(
    "read",
    [
        pytest.param(
            lambda: parse({"op": "add", "value": {f"k{n}": 1 for n in range(9_999)}}), id="unknown attributes"
        ),
        pytest.param(lambda: parse(*[add("members", ["a"] * 2200)] * 10, kind=GROUP), id="members"),
        pytest.param(
            lambda: parse(add("members", ["a"] * 22_000), add("displayName", "d"), kind=GROUP),
            id="members of one",
        ),
        pytest.param(lambda: parse(*[add("roles", ["a"] * 99)] * 100), id="values"),
        pytest.param(lambda: documents.normalise(USER, user(title=MARKS[:-1] * 2)), id="30 marks, twice"),
        pytest.param(
            lambda: documents.normalise(USER, user(title="a" + "\u0f73" * 15)), id="15 marks that are two"
        ),
        pytest.param(lambda: filters.parse(f'title eq "{MARKS[:-1]}"', USER), id="30 marks in a filter"),
        pytest.param(lambda: requests.read_json(b"[" + b"[]," * 59_998 + b"[]]"), id="lists"),
        pytest.param(lambda: requests.read_json(b"[" + b"1," * 99_999 + b"1]"), id="values in a body"),
        pytest.param(lambda: projections.parse("id," * 2730, None, USER), id="attributes to show"),
    ],
)
def test_as_much_as_the_limit_is_read(read: Callable[[], Any]) -> None:
    read()


@pytest.mark.parametrize("place", [0, 1, 29, 30, 31, 32, 61, 62, 63, 1000])
def test_a_run_of_marks_is_found_wherever_it_stands(place: int) -> None:
    for text in ("é" * place + "\u0301" * 31, "é" * place + "\u0301" * 31 + "é" * 40):
        with pytest.raises(errors.InvalidValue, match="combining marks"):
            documents.normalise(USER, user(title=text))
        documents.normalise(USER, user(title=text.replace("\u0301" * 31, "\u0301" * 30)))


FULL = documents.normalise(USER, user(emails=emails(1000)))


def apply(document: dict[str, Any], *operations: Any) -> patches.Patched:
    return patches.apply(USER, document, parse(*operations))


@pytest.mark.parametrize(
    "operations",
    [
        pytest.param([{"op": "remove", "path": f"emails[{LONG_FILTER}]"}], id="one long filter"),
        pytest.param(
            [{"op": "remove", "path": f'emails[value eq "{n}"]'} for n in range(30)], id="many filters"
        ),
        pytest.param([add("emails", [email]) for email in emails(20)], id="additions"),
        pytest.param(
            [{"op": "remove", "path": "emails", "value": [one]} for one in emails(20)],
            id="removals of values",
        ),
        pytest.param(
            [add(f'emails[value eq "{n}"].type', "a") for n in range(300)], id="filters that find nothing"
        ),
    ],
)
def test_operations_that_look_at_too_many_values_are_refused(operations: list[Any]) -> None:
    started = time.process_time()
    with pytest.raises(errors.InvalidValue, match="more than 40000 looks"):
        apply(FULL, *operations)
    assert time.process_time() - started < ENOUGH


def test_operations_of_known_clients_are_far_from_the_limit() -> None:
    held = documents.normalise(USER, user(emails=emails(20)))
    many = [add(f'emails[type eq "t{number}"].value', f"{number}@y.io") for number in range(80)]
    assert len(apply(held, *many).document["emails"]) == 100
    all_at_once = [add("emails", emails(1000)), {"op": "remove", "path": "emails", "value": emails(999)}]
    assert apply(FULL, *all_at_once).document["emails"] == emails(1000)[999:]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(user(x509Certificates=[{"value": " " * 500_000 + "!"}]), id="blanks that are no base64"),
        pytest.param(user(title="\u0301\u0316" * 250_000), id="marks in the wrong order"),
        pytest.param(user(userName="\u0301\u0316" * 250_000), id="marks in a name"),
        pytest.param(user(displayName="ΐ" * 500_000), id="letters that grow when folded"),
        pytest.param(user(roles=["a"] * 250_000), id="values that are all the same"),
        pytest.param(user(emails=emails(20_000)), id="values that all differ"),
    ],
)
def test_a_hopeless_body_is_refused_at_once(body: Any) -> None:
    started = time.process_time()
    with pytest.raises(errors.InvalidValue):
        documents.normalise(USER, body)
    assert time.process_time() - started < ENOUGH


def test_unknown_attributes_are_left_out_without_a_guess_at_what_was_meant() -> None:
    # Each guess takes a quarter of a millisecond.
    started = time.process_time()
    assert parse({"op": "add", "value": {f"unknown{number}": 1 for number in range(9_000)}}) == ()
    assert time.process_time() - started < ENOUGH / 4


def test_an_unknown_key_with_a_filter_is_left_out_and_a_known_one_is_read() -> None:
    value = {'emial[type eq "work"].value': "a", "emails[": "b", ' emails[type eq "work"].value': "c@x.io"}
    [operation] = parse({"op": "add", "value": value})
    assert (operation.path_text, operation.value) == ('emails[type eq "work"].value', "c@x.io")


def test_nothing_is_kept_of_long_paths() -> None:
    paths._parse_kept.cache_clear()
    for number in range(10):
        paths.parse(f'emails[value eq "{"x" * 300}{number}"]', USER)
    assert paths._parse_kept.cache_info().currsize == 0
    paths.parse('emails[value eq "x"]', USER)
    assert paths._parse_kept.cache_info().currsize == 1


def test_a_path_tells_how_many_comparisons_it_makes() -> None:
    assert paths.parse("emails", USER).comparisons == 0
    text = 'emails[type eq "work" and not (primary eq true or value pr)].value'
    assert paths.parse(text, USER).comparisons == 3


def test_a_filter_of_100_conditions_on_an_element_is_the_same_whole_or_apart() -> None:
    element = {"value": "a@x.io", "type": "work"}
    for text, expected in (('value co "X"', True), ('type ne "work"', False), ("display pr", False)):
        joined = paths.parse(f"emails[{' and '.join([text] * 50)}]", USER).filter
        assert joined is not None
        assert evaluations.element_test(joined)(element) is expected


def test_the_limits_leave_room_for_a_body_of_members() -> None:
    # A mebibyte of members, each with an id of ours.
    listed = [{"value": f"01a20cfb-ca48-75c6-aefb-{number:012}"} for number in range(21_000)]
    assert len(listed) < members.MAX_MEMBERS
    [operation] = parse(add("members", listed), kind=GROUP)
    assert len(operation.value) == 21_000
    weights.refuse_heavy([{"path": "members", "value": listed}], GROUP)
