"""How tokens stand, told by the clock alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from usher_core import ids
from usher_core.store import tenants
from usher_core.tenants import standings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def row(token_id: str = "old", name: str = "okta", issued: int = -10, **fields: Any) -> tenants.TokenRow:
    issued_at = NOW + issued * DAY
    return tenants.TokenRow(
        ids.TokenId(token_id), name, b"0" * 32, "administrator", issued_at, issued_at + 90 * DAY, **fields
    )


def states(*rows: tenants.TokenRow) -> dict[str, str]:
    return {one["id"]: standings.cells(one)[-1] for one in standings.describe(rows, NOW)}  # type: ignore[misc]


NEW = row("new", issued=-1)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        pytest.param([row()], {"old": "current"}, id="alone"),
        pytest.param(
            [row(), NEW], {"old": "previous, until the next one is used", "new": "current"}, id="not used yet"
        ),
        pytest.param(
            [row(valid_until=NOW + DAY), NEW],
            {"old": "previous until 2026-11-25T12:00:00Z", "new": "current"},
            id="within its overlap",
        ),
        pytest.param(
            [row(valid_until=NOW), NEW], {"old": "expired", "new": "current"}, id="behind its overlap"
        ),
        pytest.param([row(issued=-90)], {"old": "expired"}, id="behind its life"),
        pytest.param(
            [row(), row("new", issued=-1, revoked_at=NOW - DAY)],
            {"old": "current", "new": "revoked 2026-11-23T12:00:00Z"},
            id="the newer one revoked",
        ),
        pytest.param([row(name="entra"), NEW], {"old": "current", "new": "current"}, id="another name"),
        pytest.param(
            [row(rotate_requested_at=NOW)], {"old": "current, rotation requested"}, id="to be rotated"
        ),
        pytest.param(
            [row(rotate_requested_at=NOW, valid_until=NOW + DAY), NEW],
            {"old": "previous until 2026-11-25T12:00:00Z", "new": "current"},
            id="rotated",
        ),
    ],
)
def test_each_token_has_one_state(rows: list[tenants.TokenRow], told: dict[str, str]) -> None:
    assert states(*rows) == told


def test_tokens_are_listed_by_name_the_newest_first() -> None:
    rows = [row(), row("other", "entra"), NEW]
    assert [one["id"] for one in standings.describe(rows, NOW)] == ["other", "new", "old"]
