"""A folded copy is kept where PostgreSQL's lower() would not do, and nowhere else."""

from __future__ import annotations

from usher_core.store import foldings


def test_a_document_of_ascii_needs_no_copy() -> None:
    assert foldings.document({"userName": "ADA@X.IO", "active": True, "emails": [{"value": "A"}]}) is None


def test_every_text_of_a_copy_is_folded_and_nothing_else_is_changed() -> None:
    document = {"title": "GROẞE É", "active": True, "n": 1.5, "emails": [{"value": "ADA", "type": "E\u0301"}]}
    assert foldings.document(document) == {
        "title": "grosse é",
        "active": True,
        "n": 1.5,
        "emails": [{"value": "ada", "type": "é"}],
    }
    assert document["title"] == "GROẞE É"


def test_one_text_is_folded_likewise() -> None:
    assert (foldings.text("ÉA"), foldings.text("EA"), foldings.text(None)) == ("éa", None, None)
