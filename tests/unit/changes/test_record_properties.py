"""Changes and outcomes come out of the queue as they went in."""

from __future__ import annotations

from typing import Any

import hypothesis
import orjson
import pytest
from hypothesis import strategies as st

from usher_core import ids
from usher_core.changes import records

often = hypothesis.settings(deadline=None, max_examples=200)
texts = st.text(max_size=10)
optional_texts = st.none() | texts
json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
moments = st.integers(0, 250_000_000_000_000_000).map(
    lambda micros: records.EPOCH + micros * records.MICROSECOND
)
uuids = st.uuids(allow_nil=True)

changes: st.SearchStrategy[records.Change] = st.builds(
    records.Change,
    uuids.map(ids.ChangeId),
    moments,
    st.sampled_from(["create", "replace", "patch", "delete", "restore"]),
    texts,
    uuids.map(ids.ResourceId),
    json,
    st.none() | st.lists(st.integers(0, 10**18), max_size=3).map(tuple),
    texts,
    texts,
    texts,
)
outcomes: st.SearchStrategy[records.Outcome] = st.builds(
    records.Outcome,
    uuids.map(ids.ChangeId),
    st.integers(200, 599),
    optional_texts,
    optional_texts,
    st.none() | st.integers(0, 2**63 - 1),
    st.none() | moments,
    st.none() | moments,
    st.none() | st.dictionaries(texts, json, max_size=3),
    st.none() | uuids.map(ids.ResourceId),
)


@often
@hypothesis.given(changes)
def test_a_change_comes_out_as_it_went_in(change: records.Change) -> None:
    assert records.Change.decode(change.encode()) == change


@often
@hypothesis.given(outcomes)
def test_an_outcome_comes_out_as_it_went_in(outcome: records.Outcome) -> None:
    assert records.Outcome.decode(outcome.encode()) == outcome


@often
@hypothesis.given(st.binary(max_size=30) | json.map(orjson.dumps))
def test_any_other_bytes_are_no_change(data: bytes) -> None:
    with pytest.raises(ValueError):
        records.Change.decode(data)


@often
@hypothesis.given(changes, st.data())
def test_a_change_that_lost_a_part_is_none(change: records.Change, data: Any) -> None:
    items = orjson.loads(change.encode())
    del items[data.draw(st.integers(0, len(items) - 1))]
    with pytest.raises(ValueError):
        records.Change.decode(orjson.dumps(items))
