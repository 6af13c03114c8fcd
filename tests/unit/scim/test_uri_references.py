"""References are URIs, and of a resource type that the schema lists (RFC 7643 §2.3.7, §7)."""

from __future__ import annotations

import pytest

from usher_core import errors
from usher_core.scim import attributes, readers


def reference(*types: str) -> attributes.Attribute:
    known = {"User": "users", "Group": "groups", "Device": "devices"}
    served = tuple(known[name] for name in types if name in known)
    return attributes.Attribute("owner", "reference", reference_types=types, reference_endpoints=served)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("https://h/iam/scim/v2/Users/9", id="URL"),
        pytest.param("http://h/Users/9", id="URL as Entra ID sends it"),
        pytest.param("../Users/26118915-6090-4610-87e4-49d8ca9f808d", id="relative, as in RFC 7643"),
        pytest.param("Users/x", id="relative, as Keycloak sends it"),
        pytest.param("/v2/users/9/", id="another case and a slash"),
        pytest.param("Groups/9?attributes=id#x", id="with a query"),
        pytest.param("26118915-6090-4610-87e4-49d8ca9f808d", id="the id alone"),
        pytest.param("", id="nothing"),
    ],
)
def test_a_reference_to_a_listed_type_is_taken_as_it_is(text):
    assert readers.whole(reference("User", "Group"), "owner")(text) == text


@pytest.mark.parametrize(
    ("types", "text"),
    [
        pytest.param(("User",), "https://h/Groups/9", id="another type"),
        pytest.param(("User",), "https://h/people/9", id="no type"),
        pytest.param(("User",), "urn:uuid:26118915", id="a name"),
        pytest.param(("User",), "https://h/Users/", id="a type and no id"),
        pytest.param(("Device",), "Users/9", id="not of the tenant's own"),
        pytest.param(("external",), "Users/9", id="not absolute"),
        pytest.param(("external",), "www.example.com", id="no scheme"),
    ],
)
def test_a_reference_to_anything_else_is_refused_with_the_types(types, text):
    with pytest.raises(errors.InvalidValue) as caught:
        readers.whole(reference(*types), "owner")(text)
    assert caught.value.detail.startswith("owner must ")
    assert (types[0] if types[0] != "external" else "absolute") in caught.value.detail
    assert text not in caught.value.detail


@pytest.mark.parametrize(
    ("types", "text"),
    [
        pytest.param(("external",), "https://example.com/é.png", id="external"),
        pytest.param(("external",), "data:image/png;base64,AAAA", id="external data"),
        pytest.param(("uri",), "../anything/at/all", id="any URI"),
        pytest.param(("uri",), "urn:example:x", id="URN"),
        pytest.param((), "x/y", id="no types"),
        pytest.param(("external", "User"), "Users/9", id="one of several, a resource"),
        pytest.param(("external", "User"), "https://example.com/", id="one of several, outside"),
    ],
)
def test_what_the_types_allow_is_taken(types, text):
    assert readers.whole(reference(*types), "owner")(text) == text


@pytest.mark.parametrize("text", ["a b", "<a>", "a\\b", "{x}", 'a"b', "a\tb"])
def test_what_is_no_uri_is_refused(text):
    with pytest.raises(errors.InvalidValue, match="owner must be a URI"):
        readers.whole(reference("uri"), "owner")(text)
