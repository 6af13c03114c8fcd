"""Paths of PATCH operations."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usher_core import errors
from usher_core.scim import filters, paths, schemas

USER = schemas.default().by_name("User")
GROUP = schemas.default().by_name("Group")
ENTERPRISE = schemas.ENTERPRISE_USER


@pytest.mark.parametrize(
    ("text", "canonical", "filtered"),
    [
        pytest.param("active", "active", False, id="attribute"),
        pytest.param("NAME.GIVENNAME", "name.givenName", False, id="sub-attribute in any case"),
        pytest.param(" active ", "active", False, id="spaces"),
        pytest.param("emails", "emails", False, id="multi-valued"),
        pytest.param("emails.value", "emails.value", False, id="sub-attribute of all elements"),
        pytest.param('emails[type eq "work"]', 'emails[type eq "work"]', True, id="filter"),
        pytest.param(
            'EMAILS[type eq "work"].VALUE',
            'emails[type eq "work"].value',
            True,
            id="filter and sub-attribute",
        ),
        pytest.param(
            'emails[value eq "a]b"].type', 'emails[value eq "a]b"].type', True, id="bracket in a string"
        ),
        pytest.param("manager", f"{ENTERPRISE}:manager", False, id="Entra: manager without URN"),
        pytest.param(
            'manager[value eq "9"]', f'{ENTERPRISE}:manager[value eq "9"]', True, id="manager with a filter"
        ),
        pytest.param(f"{ENTERPRISE}:manager", f"{ENTERPRISE}:manager", False, id="URN"),
        pytest.param(
            f"{ENTERPRISE}:manager.value".upper(), f"{ENTERPRISE}:manager.value", False, id="URN in any case"
        ),
        pytest.param(ENTERPRISE, ENTERPRISE, False, id="whole extension"),
        pytest.param(f"{schemas.USER}:name.familyName", "name.familyName", False, id="core URN"),
        pytest.param("externalId", "externalId", False, id="common attribute"),
    ],
)
def test_a_path_is_read_and_written_in_its_canonical_form(text, canonical, filtered):
    path = paths.parse(text, USER)
    assert path.text == canonical
    assert (path.filter is not None) is filtered
    assert paths.parse(path.text, USER) == path


def test_the_reference_names_what_follows_the_bracket():
    path = paths.parse('emails[type eq "work"].value', USER)
    assert path.reference.path == "emails.value"
    assert isinstance(path.filter, filters.Comparison)
    assert path.filter.attribute.path == "emails.type"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        pytest.param("", "empty", id="empty"),
        pytest.param("  ", "empty", id="blank"),
        pytest.param("actve", "actve is no attribute of User; did you mean active", id="unknown"),
        pytest.param("name.nick", "name.nick", id="unknown sub-attribute"),
        pytest.param("urn:example:unknown:User:x", "urn:example:unknown:User:x", id="unknown schema"),
        pytest.param(schemas.USER, schemas.USER, id="core URN alone"),
        pytest.param("emails[", "emails[", id="bracket without end"),
        pytest.param("emails[]", "emails[", id="empty filter"),
        pytest.param('[type eq "work"]', "empty", id="no attribute"),
        pytest.param('emails[type eq "work"]value', "emails", id="no dot after the bracket"),
        pytest.param('emails[type eq "work"].nick', ".nick", id="unknown after the bracket"),
        pytest.param('emails[type eq "work"].', "emails", id="nothing after the dot"),
        pytest.param('title[value eq "x"]', "title", id="filter on a simple attribute"),
        pytest.param('emails.value[type eq "x"]', "emails.value", id="filter on a sub-attribute"),
        pytest.param(f'{ENTERPRISE}[division eq "x"]', ENTERPRISE, id="filter on a schema"),
        pytest.param("active\0", "character", id="NUL"),
        pytest.param("active" * 2000, "8192", id="too long"),
    ],
)
def test_a_wrong_path_is_refused_and_the_fault_named(text, named):
    with pytest.raises(errors.InvalidPath) as caught:
        paths.parse(text, USER)
    assert named in caught.value.detail


@pytest.mark.parametrize(
    "text", ['emails[typ eq "work"]', "emails[type]", 'emails[type eq "x"]]', "emails[(type pr]"]
)
def test_a_wrong_filter_in_a_path_is_an_invalid_filter(text):
    with pytest.raises(errors.InvalidFilter):  # RFC 7644 §3.12, table 9
        paths.parse(text, USER)


parts = st.sampled_from(
    ["emails", "[", "]", ".", "value", 'type eq "work"', "urn:", ":", ENTERPRISE, " ", "manager", '"']
)


@settings(max_examples=400)
@given(st.text() | st.lists(parts | st.text(max_size=2), max_size=12).map("".join))
def test_any_text_is_a_path_or_a_protocol_error(text):
    for resource_type in (USER, GROUP):
        try:
            path = paths.parse(text, resource_type)
        except (errors.InvalidPath, errors.InvalidFilter) as exc:
            exc.detail.encode()
        else:
            assert paths.parse(path.text, resource_type) == path
