"""The page docs/reference/scimtenant.md says what the CRD says."""

from __future__ import annotations


def test_the_page_is_the_one_that_the_crd_makes(crd_reference, crd):
    """After a change of the CRD `make docs` writes the page anew."""
    assert crd_reference.PAGE.read_text() == crd_reference.page(crd)
