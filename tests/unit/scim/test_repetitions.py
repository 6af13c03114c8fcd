"""A value that a client sends twice is kept once; what tells two values apart is value and type."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher_core import errors
from usher_core.scim import documents, patches, repetitions, schemas

USER = schemas.default().by_name("User")
WORK = {"value": "a@x.io", "type": "work"}
EMAILS = USER.schema.attributes["emails"]


def stored(**attributes: Any) -> dict[str, Any]:
    return documents.normalise(USER, {"userName": "a@x.io", **attributes})


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param([WORK, WORK], [WORK], id="the same"),
        pytest.param([WORK, {"value": "A@X.io", "type": "WORK"}], [{"value": "A@X.io", "type": "WORK"}],
                     id="the same in another case"),
        pytest.param([WORK, WORK | {"type": "home"}], [WORK, WORK | {"type": "home"}], id="another type"),
        pytest.param([WORK, {"value": "a@x.io"}], [WORK, {"value": "a@x.io"}], id="no type is another one"),
        pytest.param([WORK | {"display": "A"}, WORK | {"display": "B"}], [WORK | {"display": "B"}],
                     id="the last word counts"),
        pytest.param([WORK | {"display": "A"}, WORK], [WORK | {"display": "A"}], id="silence takes nothing"),
        pytest.param([WORK | {"primary": True}, WORK | {"primary": True}], [WORK | {"primary": True}],
                     id="one primary value twice"),
        pytest.param([{"value": "b"}, WORK, {"value": "b"}, WORK], [{"value": "b"}, WORK],
                     id="in the order of the first"),
    ],
)  # fmt: skip
def test_what_is_sent_twice_is_kept_once(sent: list[Any], kept: list[Any]) -> None:
    assert stored(emails=sent)["emails"] == kept
    body = {"schemas": [], "Operations": [{"op": "replace", "path": "emails", "value": sent}]}
    patched = patches.apply(USER, stored(), patches.parse(body, USER))
    assert patched.document["emails"] == kept


def test_values_without_a_value_are_the_same_when_all_of_them_is() -> None:
    home = {"type": "home", "locality": "Z"}
    assert stored(addresses=[home, home, home | {"country": "CH"}])["addresses"] == [
        home,
        home | {"country": "CH"},
    ]


def test_what_is_case_exact_differs_by_its_case() -> None:
    certificates = [{"value": "YWI="}, {"value": "ywi="}, {"value": "YWI="}]
    assert stored(x509Certificates=certificates)["x509Certificates"] == certificates[:2]


def test_two_primary_values_are_refused_and_the_attribute_named() -> None:
    two = [WORK | {"primary": True}, {"value": "b@x.io", "primary": True}]
    with pytest.raises(errors.InvalidValue, match=r"emails\.primary"):
        stored(emails=two)


elements = st.fixed_dictionaries(
    {},
    optional={
        "value": st.sampled_from(["a", "A", "b"]),
        "type": st.sampled_from(["work", "Work", "home"]),
        "display": st.sampled_from(["x", "y"]),
    },
).filter(bool)


@given(st.lists(elements, max_size=8))
def test_leaving_out_twice_is_leaving_out_once(listed: list[Any]) -> None:
    kept = repetitions.once(EMAILS, listed)
    assert repetitions.once(EMAILS, kept) == kept
    told = [(one.get("value", "").lower(), one.get("type", "").lower()) for one in kept if "value" in one]
    assert len(told) == len(set(told))
    assert {one.get("value", "").lower() for one in kept} == {one.get("value", "").lower() for one in listed}
