"""What a serving process asks of the schema is what the migrations lead to."""

from __future__ import annotations

from usher_core.store import migrations, revisions


def test_the_revision_that_is_needed_is_the_last_one() -> None:
    assert int(migrations.head()) == revisions.NEEDED
