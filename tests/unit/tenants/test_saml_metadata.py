from __future__ import annotations

import time

import pytest

from usher_core.tenants import saml_metadata

MD = 'xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"'
IDP = '<md:IDPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"/>'
SP = '<md:SPSSODescriptor protocolSupportEnumeration="urn:oasis:names:tc:SAML:2.0:protocol"/>'


def entity(content: str = IDP, name: str = 'entityID="https://idp.example.com/acme"', ns: str = MD) -> str:
    return f"<md:EntityDescriptor {ns} {name}>{content}</md:EntityDescriptor>"


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(entity(), id="one-entity"),
        pytest.param('<?xml version="1.0" encoding="UTF-8"?>\n' + entity(), id="with-declaration"),
        pytest.param(entity(SP + IDP), id="both-roles"),
        pytest.param(
            f"<md:EntitiesDescriptor {MD}>{entity(SP)}{entity()}</md:EntitiesDescriptor>", id="many"
        ),
        pytest.param(entity().replace("xmlns:md", "xmlns").replace("md:", ""), id="default-namespace"),
    ],
)
def test_an_identity_providers_metadata_are_valid(document: str) -> None:
    verdict = saml_metadata.check(document.encode())
    assert verdict.valid, verdict.message
    assert verdict.reason == "MetadataValid"


SECRET = "S3CR3T"
BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))


@pytest.mark.parametrize(
    ("document", "reason", "words"),
    [
        pytest.param(None, "MetadataMissing", "there is no SAML metadata", id="none"),
        pytest.param("", "MetadataMissing", "there is no SAML metadata", id="empty"),
        pytest.param(" \n", "MetadataMissing", "there is no SAML metadata", id="blank"),
        pytest.param(SECRET, "MetadataInvalid", "well-formed", id="no-xml"),
        pytest.param(f"<a>{SECRET}</b>", "MetadataInvalid", "well-formed XML (line 1", id="broken-xml"),
        pytest.param(f"<{SECRET}/>", "MetadataInvalid", "the root is neither", id="another-root"),
        pytest.param(
            entity(ns='xmlns:md="urn:x"'), "MetadataInvalid", "the root is neither", id="another-namespace"
        ),
        pytest.param(entity(SP), "MetadataInvalid", "no IDPSSODescriptor", id="service-provider"),
        pytest.param(entity(name=""), "MetadataInvalid", "no entityID", id="no-entity-id"),
        pytest.param(entity(name='entityID=" "'), "MetadataInvalid", "no entityID", id="blank-entity-id"),
        pytest.param(
            f"<md:EntitiesDescriptor {MD}/>", "MetadataInvalid", "no IDPSSODescriptor", id="no-entity"
        ),
        pytest.param("x" * (1024 * 1024 + 1), "MetadataInvalid", "larger than", id="too-large"),
        pytest.param(
            f'<!DOCTYPE a [<!ENTITY e "{SECRET}">]>{entity(IDP + "&e;")}',
            "MetadataInvalid",
            "document type declaration",
            id="entity",
        ),
        pytest.param(
            f'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/passwd">]>{entity(IDP + "&e;")}',
            "MetadataInvalid",
            "document type declaration",
            id="external-entity",
        ),
        pytest.param(
            f'<!DOCTYPE a [<!ENTITY e0 "lol">{BOMB}]>{entity(IDP + "&e11;")}',
            "MetadataInvalid",
            "",
            id="entity-bomb",
        ),
    ],
)
def test_what_will_not_do_is_told_without_a_quote(document: str | None, reason: str, words: str) -> None:
    started = time.monotonic()
    verdict = saml_metadata.check(None if document is None else document.encode())
    assert time.monotonic() - started < 1
    assert not verdict.valid
    assert verdict.reason == reason
    assert words in verdict.message
    assert SECRET not in verdict.message
