from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usher_core.tenants import durations


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        pytest.param("2160h", timedelta(days=90), id="hours"),
        pytest.param("30m", timedelta(minutes=30), id="minutes"),
        pytest.param("1h30m", timedelta(minutes=90), id="hours-and-minutes"),
        pytest.param("59m59s", timedelta(seconds=3599), id="minutes-and-seconds"),
        pytest.param("0s", timedelta(0), id="none"),
        pytest.param("1m1m", timedelta(minutes=2), id="a-unit-twice-as-go-reads-it"),
    ],
)
def test_a_duration_is_read(text: str, duration: timedelta) -> None:
    assert durations.parse(text) == duration


@pytest.mark.parametrize(
    "text", ["90d", "", "1", "h", "1.5h", "-1h", "1h ", "1H", "100000h", "1h1m1s1s", 24, None, "\uff11h"]
)
def test_what_is_not_of_the_form_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match="like 2160h"):
        durations.parse(text)


@given(st.timedeltas(timedelta(0), timedelta(hours=99999)))
def test_what_is_written_reads_back(duration: timedelta) -> None:
    whole = timedelta(seconds=duration // timedelta(seconds=1))
    assert durations.parse(durations.text_of(whole)) == whole
