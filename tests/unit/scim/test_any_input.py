"""Whatever comes, reading it ends with what was read, or with an error of the protocol."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Any

import hypothesis
import orjson
import pytest
from hypothesis import strategies as st

from usher_core import errors
from usher_core.scim import documents, filters, messages, patches, paths, projections, schemas, searches
from usher_core.store import cursors

REGISTRY = schemas.default()
USER, GROUP = REGISTRY.by_name("User"), REGISTRY.by_name("Group")
NOW = datetime.datetime(2030, 1, 31, tzinfo=datetime.UTC)

often = hypothesis.settings(deadline=None, max_examples=400)


def attempt(read: Callable[[], Any]) -> None:
    try:
        read()
    except errors.ScimError as exc:
        refusal = exc
    else:
        return
    # A text that no answer can hold would make a 500 of a 400.
    orjson.dumps(messages.error(refusal.status, refusal.scim_type, refusal.detail))
    assert 400 <= refusal.status < 500


# With NUL, lone surrogates and marks, and now and then with what the grammars are made of.
letters = st.sampled_from(["\0", "\ud800", "\udfff", "\u0301", "\u0f73", "É"])
odd = st.text(max_size=5) | st.lists(
    letters | st.characters(exclude_categories=[]), min_size=1, max_size=5
).map("".join)
words = st.sampled_from(
    [
        *("userName", "emails", "NAME.givenName", "members", "password", "meta.created", "manager", "id"),
        *(
            schemas.USER,
            f"{schemas.ENTERPRISE_USER}:manager.value",
            schemas.ENTERPRISE_USER,
            "urn:",
            ":",
            ".",
        ),
        *(" eq ", " ne ", " co ", " gt ", " pr", " and ", " or ", "not (", "(", ")", "[", "]", "].", " "),
        *('"a"', '"', "\\", r'"\ud800"', r'"\u0000"', "true", "null", "1", "-1e999", "9" * 400),
        *('"2030-01-31T23:59:59Z"', '"2030-02-31T23:59:59Z"', "\u0301" * 40, "(" * 30, 'emails[type eq "w"]'),
    ]
)
texts = odd | st.lists(words | odd, max_size=12).map("".join)


@often
@hypothesis.given(texts)
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    for kind in (USER, GROUP):
        attempt(lambda kind=kind: filters.parse(text, kind))


@often
@hypothesis.given(texts)
def test_any_text_is_a_path_or_refused(text: str) -> None:
    for kind in (USER, GROUP):
        attempt(lambda kind=kind: paths.parse(text, kind))


@often
@hypothesis.given(texts, texts)
def test_any_names_are_a_projection_or_refused(attributes: str, excluded: str) -> None:
    attempt(lambda: projections.parse(attributes, None, USER))
    attempt(lambda: projections.parse(attributes, excluded, USER))


parameters = st.sampled_from(
    [
        "filter",
        "sortBy",
        "sortOrder",
        "startIndex",
        "count",
        "cursor",
        "attributes",
        "excludedAttributes",
        "x",
    ]
)


@often
@hypothesis.given(st.dictionaries(parameters, texts, max_size=5))
def test_any_query_is_a_search_or_refused(given: dict[str, str]) -> None:
    attempt(lambda: searches.from_parameters(given))


@often
@hypothesis.given(st.binary(max_size=40), st.binary(max_size=40), texts)
def test_any_text_is_refused_as_a_cursor(key: bytes, query: bytes, text: str) -> None:
    with pytest.raises(errors.InvalidCursor):
        cursors.read(key, query, text, NOW)


seldom = hypothesis.settings(deadline=None, max_examples=150)  # large inputs, slowly made
keys = (
    st.sampled_from(
        [
            *(
                "schemas",
                "Operations",
                "op",
                "path",
                "value",
                "userName",
                "USERNAME",
                "displayName",
                "emails",
            ),
            *(
                "active",
                "name",
                "givenName",
                "roles",
                "manager",
                "managerId",
                "type",
                "primary",
                "members",
                "$ref",
            ),
            *(
                "x509Certificates",
                "photos",
                "password",
                "externalId",
                "meta",
                "groups",
                "id",
                "count",
                "filter",
            ),
            *(schemas.ENTERPRISE_USER, f"{schemas.ENTERPRISE_USER}:manager", f"{schemas.USER}:title"),
            *('emails[type eq "work"].value', 'members[value eq "a"]', "emails[", "name.", "startIndex"),
        ]
    )
    | odd
)
scalars = (
    st.none() | st.booleans() | st.integers(-(2**64), 2**65) | st.floats() | odd
    | st.sampled_from(
        [
            *("add", "Replace", "remove", "True", "work", "emails", "name.familyName", "members"),
            "urn:scim:schemas:core:1.0",
            *(messages.PATCH_OP_SCHEMA, schemas.USER, '{"value":"{\\"value\\":7}"}', "{" * 500, "https://x.io/a"),
            *('emails[type eq "w"].value', "2030-01-31T23:59:59Z", "", " "),
        ]
    )
)  # fmt: skip
json = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5),
    max_leaves=20,
)
operations = st.fixed_dictionaries({"op": scalars, "value": json}, optional={"path": texts | scalars})
bodies = (
    json
    | st.dictionaries(keys, json, max_size=6).map(lambda body: {"userName": "u", "displayName": "d"} | body)
    | st.fixed_dictionaries({"Operations": st.lists(operations | json, max_size=4)})
    | st.fixed_dictionaries(
        {"Operations": st.lists(st.fixed_dictionaries({"op": st.just("add"), "value": json}))}
    )
)


@seldom
@hypothesis.given(bodies)
def test_any_json_is_a_document_or_refused(body: Any) -> None:
    for kind in (USER, GROUP):
        for ignore in (True, False):
            attempt(lambda kind=kind, ignore=ignore: documents.normalise(kind, body, ignore_unknown=ignore))


@seldom
@hypothesis.given(bodies)
def test_any_json_is_a_patch_or_refused(body: Any) -> None:
    for kind in (USER, GROUP):
        attempt(lambda kind=kind: patches.parse(body, kind))


@seldom
@hypothesis.given(bodies)
def test_any_json_is_a_search_or_refused(body: Any) -> None:
    attempt(lambda: searches.from_message(body))


def nested(levels: int, around: Any, wrap: Callable[[Any], Any]) -> Any:
    for _ in range(levels):
        around = wrap(around)
    return around


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda inner: [inner], id="lists"),
        pytest.param(lambda inner: {"value": inner}, id="objects"),
        pytest.param(lambda inner: {"name": [inner]}, id="both"),
    ],
)
def test_json_nested_deeper_than_python_can_follow_is_refused(wrap: Callable[[Any], Any]) -> None:
    for key in ("emails", "name", "x", schemas.ENTERPRISE_USER):
        with pytest.raises(errors.InvalidSyntax, match="nested deeper"):
            documents.normalise(USER, {"userName": "u", key: nested(5000, "a", wrap)})
    with pytest.raises(errors.InvalidSyntax, match="nested deeper"):
        patches.parse({"Operations": [{"op": "add", "value": nested(5000, {}, wrap)}]}, USER)
