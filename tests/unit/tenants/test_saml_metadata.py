"""What is said of SAML metadata, shaped like those of real providers and bent in every way."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta

import pytest

from usher_core.tenants import saml_metadata
from usher_core.testing import identity_providers

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)

SECRET = "S3CR3T"
MD = 'xmlns:md="urn:oasis:names:tc:SAML:2.0:metadata"'
DS = 'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"'
SAML2 = "urn:oasis:names:tc:SAML:2.0:protocol"
BINDING = "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-"
SP = f'<md:SPSSODescriptor protocolSupportEnumeration="{SAML2}"/>'


def certificate(begins: int, ends: int) -> str:
    """Make a certificate that is valid from and until so many days from now."""
    return identity_providers.certificate(NOW + begins * DAY, NOW + ends * DAY)


VALID = certificate(-100, 300)
SOON = certificate(-100, 30)
ENDED = certificate(-100, -1)
EARLY = certificate(1, 300)


def key(text: str = VALID, use: str = ' use="signing"') -> str:
    """Make a KeyDescriptor with one certificate."""
    return (
        f"<md:KeyDescriptor{use}><ds:KeyInfo {DS}><ds:X509Data><ds:X509Certificate>{text}"
        "</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>"
    )


def service(binding: str = f"{BINDING}Redirect", location: str = "https://idp.example.com/sso") -> str:
    return f'<md:SingleSignOnService Binding="{binding}" Location="{location}"/>'


def idp(
    keys: str | None = None, services: str | None = None, protocols: str = SAML2, attributes: str = ""
) -> str:
    keys, services = key() if keys is None else keys, service() if services is None else services
    return (
        f'<md:IDPSSODescriptor protocolSupportEnumeration="{protocols}" {attributes}>'
        f"{keys}{services}</md:IDPSSODescriptor>"
    )


def entity(
    content: str | None = None, name: str = f'entityID="https://idp.example.com/{SECRET}"', ns: str = MD
) -> str:
    return f"<md:EntityDescriptor {ns} {name}>{idp() if content is None else content}</md:EntityDescriptor>"


def several(*entities: str, attributes: str = "") -> str:
    return f"<md:EntitiesDescriptor {MD} {attributes}>{''.join(entities)}</md:EntitiesDescriptor>"


def wrapped(text: str) -> str:
    """Break a certificate into the lines in which providers print it."""
    return "\n".join(["", *(text[start : start + 76] for start in range(0, len(text), 76)), ""])


OKTA = f"""<?xml version="1.0" encoding="UTF-8"?><md:EntityDescriptor
 entityID="http://www.okta.com/exk1fcia6d6EMsf331d8" {MD}>
<md:IDPSSODescriptor WantAuthnRequestsSigned="false" protocolSupportEnumeration="{SAML2}"><md:KeyDescriptor
 use="signing"><ds:KeyInfo {DS}><ds:X509Data><ds:X509Certificate>{wrapped(VALID)}</ds:X509Certificate>
</ds:X509Data></ds:KeyInfo></md:KeyDescriptor><md:NameIDFormat>urn:oasis:names:tc:SAML:1.1:nameid-format:unspecified</md:NameIDFormat>
{service(f"{BINDING}POST", "https://acme.okta.com/app/acme_scim_1/exk1/sso/saml")}
{service(f"{BINDING}Redirect", "https://acme.okta.com/app/acme_scim_1/exk1/sso/saml")}
</md:IDPSSODescriptor></md:EntityDescriptor>"""

# A signature, WS-Federation's roles in other namespaces before SAML's, and the certificate of the next term.
ENTRA = f"""﻿<?xml version="1.0" encoding="utf-8"?><EntityDescriptor ID="_0d9a"
 entityID="https://sts.windows.net/5b73a3b1-9c8f-4f54-b8e1-6a5c0a0f8a11/"
 xmlns="urn:oasis:names:tc:SAML:2.0:metadata">
<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"><SignedInfo/><SignatureValue>QQ==</SignatureValue><KeyInfo>
<X509Data><X509Certificate>{ENDED}</X509Certificate></X509Data></KeyInfo></Signature>
<RoleDescriptor xsi:type="fed:SecurityTokenServiceType" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
 protocolSupportEnumeration="http://docs.oasis-open.org/wsfed/federation/200706"
 xmlns:fed="http://docs.oasis-open.org/wsfed/federation/200706"><KeyDescriptor use="signing">
<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>{ENDED}</X509Certificate></X509Data>
</KeyInfo></KeyDescriptor></RoleDescriptor>
<IDPSSODescriptor protocolSupportEnumeration="{SAML2}"><KeyDescriptor use="signing">
<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>{VALID}</X509Certificate></X509Data>
</KeyInfo></KeyDescriptor><KeyDescriptor use="signing">
<KeyInfo xmlns="http://www.w3.org/2000/09/xmldsig#"><X509Data><X509Certificate>{EARLY}</X509Certificate></X509Data>
</KeyInfo></KeyDescriptor>
<SingleLogoutService Binding="{BINDING}Redirect" Location="https://login.microsoftonline.com/5b73a3b1/saml2"/>
<SingleSignOnService Binding="{BINDING}Redirect" Location="https://login.microsoftonline.com/5b73a3b1/saml2"/>
<SingleSignOnService Binding="{BINDING}POST" Location="https://login.microsoftonline.com/5b73a3b1/saml2"/>
</IDPSSODescriptor></EntityDescriptor>"""

KEYCLOAK = several(
    f"""<md:EntityDescriptor entityID="https://keycloak.acme.example/realms/acme">
<md:IDPSSODescriptor WantAuthnRequestsSigned="true" protocolSupportEnumeration="{SAML2}">
<md:KeyDescriptor use="signing"><ds:KeyInfo {DS}><ds:KeyName>aBcD-1_2</ds:KeyName><ds:X509Data>
<ds:X509Certificate>{VALID}</ds:X509Certificate></ds:X509Data></ds:KeyInfo></md:KeyDescriptor>
<md:ArtifactResolutionService Binding="urn:oasis:names:tc:SAML:2.0:bindings:SOAP"
 Location="https://keycloak.acme.example/a" index="0"/>
{service(f"{BINDING}POST", "https://keycloak.acme.example/realms/acme/protocol/saml")}
{service(f"{BINDING}Redirect", "https://keycloak.acme.example/realms/acme/protocol/saml")}
{service("urn:oasis:names:tc:SAML:2.0:bindings:SOAP", "http://keycloak.acme.example/realms/acme/protocol/saml")}
{service(f"{BINDING}Artifact", "http://keycloak.acme.example/realms/acme/protocol/saml")}
</md:IDPSSODescriptor></md:EntityDescriptor>""",
    attributes='Name="urn:keycloak"',
)


@pytest.mark.parametrize(
    "document",
    [
        pytest.param(OKTA, id="as okta writes them"),
        pytest.param(ENTRA, id="as entra writes them"),
        pytest.param(KEYCLOAK, id="as keycloak writes them"),
        pytest.param(identity_providers.metadata(VALID), id="as our tests make them"),
        pytest.param(entity(SP + idp()), id="a service provider in the same entity"),
        pytest.param(several(entity(SP), several(entity())), id="one identity provider among others, deep"),
        pytest.param(entity().replace("xmlns:md", "xmlns").replace("md:", ""), id="the default namespace"),
        pytest.param(entity(idp(key(use=""))), id="a key for every use"),
        pytest.param(entity(idp(key(use=' use="encryption"') + key())), id="a key for encryption beside it"),
        pytest.param(entity(idp(key(VALID[:40] + "<!-- next -->" + VALID[40:]))), id="a comment within"),
        pytest.param(entity(idp(protocols=f"urn:oasis:names:tc:SAML:1.1:protocol {SAML2}")), id="versions"),
        pytest.param(
            entity(idp(protocols="urn:oasis:names:tc:SAML:1.1:protocol", keys="") + idp()),
            id="a role of its own for SAML 1.1",
        ),
        pytest.param(
            entity(idp(key(f"{VALID}</ds:X509Certificate><ds:X509Certificate>{ENDED}"))), id="a chain"
        ),
        pytest.param(entity(idp(attributes='validUntil="2026-12-31T00:00:00Z"')), id="an end to come"),
        pytest.param(entity(name='entityID="urn:acme:idp"'), id="an entity id that is no address"),
    ],
)
def test_an_identity_providers_metadata_are_valid(document: str) -> None:
    verdict = saml_metadata.check(document.encode(), NOW)
    assert (verdict.reason, verdict.valid) == ("MetadataValid", True), verdict.message


def test_metadata_in_another_encoding_are_read() -> None:
    document = f'<?xml version="1.0" encoding="UTF-16"?>{entity()}'.encode("utf-16")
    assert saml_metadata.check(document, NOW).valid


BOMB = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
BOMB = f'<!DOCTYPE a [<!ENTITY e0 "lol">{BOMB}]>'
NOTHING = "<md:KeyDescriptor><ds:KeyInfo xmlns:ds='http://www.w3.org/2000/09/xmldsig#'/></md:KeyDescriptor>"


@pytest.mark.parametrize(
    ("document", "words"),
    [
        pytest.param(SECRET, "well-formed", id="no xml"),
        pytest.param(f"<a>{SECRET}</b>", "well-formed XML (line 1", id="broken xml"),
        pytest.param(f"<{SECRET}/>", "the root is neither", id="another root"),
        pytest.param(entity(ns='xmlns:md="urn:x"'), "the root is neither", id="another namespace"),
        pytest.param("x" * (1024 * 1024 + 1), "larger than 1048576 bytes", id="too large"),
        pytest.param("<a>" * 100_000, "well-formed", id="too deep"),
        pytest.param(
            f'<!DOCTYPE a [<!ENTITY e "{SECRET}">]>{entity(idp() + "&e;")}', "document type", id="an entity"
        ),
        pytest.param(
            f'<!DOCTYPE a [<!ENTITY e SYSTEM "file:///etc/hostname">]>{entity(idp() + "&e;")}',
            "document type",
            id="an external entity",
        ),
        pytest.param(
            f'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd">{entity()}', "document type", id="an external dtd"
        ),
        pytest.param(
            f'<!DOCTYPE a [<!ENTITY % p SYSTEM "file:///etc/hostname"> %p;]>{entity()}',
            "",
            id="a parameter entity",
        ),
        pytest.param("<!DOCTYPE a>" + entity(), "document type", id="a bare document type"),
        pytest.param(BOMB + entity(idp() + "&e11;"), "", id="a billion laughs"),
        pytest.param(BOMB + entity(name='entityID="&e11;"'), "", id="a billion laughs in an attribute"),
        pytest.param(entity(SP), "no IDPSSODescriptor", id="a service provider"),
        pytest.param(several(), "no IDPSSODescriptor", id="no entity"),
        pytest.param(
            entity(f"<md:Extensions>{idp()}</md:Extensions>"),
            "no IDPSSODescriptor",
            id="hidden in extensions",
        ),
        pytest.param(entity(idp() + idp()), "2 IDPSSODescriptors", id="two roles in one entity"),
        pytest.param(several(entity(), entity(), entity()), "3 IDPSSODescriptors", id="several providers"),
        pytest.param(
            entity(idp(protocols="urn:oasis:names:tc:SAML:1.1:protocol")), "protocolSupport", id="SAML 1.1"
        ),
        pytest.param(entity(idp(protocols="")), "protocolSupportEnumeration", id="no protocol"),
        pytest.param(entity(name=""), "no entityID", id="no entity id"),
        pytest.param(entity(name='entityID=" "'), "no entityID", id="a blank entity id"),
        pytest.param(entity(name=f'entityID="a {SECRET}"'), "white space", id="words as an entity id"),
        pytest.param(entity(name=f'entityID="{"a" * 1025}"'), "1024", id="a long entity id"),
        pytest.param(entity(idp(services="")), "no SingleSignOnService", id="no location"),
        pytest.param(
            entity(idp(services=service("urn:oasis:names:tc:SAML:2.0:bindings:SOAP"))),
            "no SingleSignOnService with the binding",
            id="another binding",
        ),
        pytest.param(
            entity(idp(services=service(location=f"http://{SECRET}/"))),
            "no https://",
            id="a location in clear",
        ),
        pytest.param(
            entity(idp(services=service() + service(f"{BINDING}POST", "http://idp.example.com/"))),
            "no https://",
            id="one of two locations in clear",
        ),
        pytest.param(entity(idp(services=service(location="/sso"))), "no https://", id="a relative location"),
        pytest.param(entity(idp(services=service(location="https://"))), "no https://", id="no host"),
        pytest.param(
            entity(idp(services=service(location="https://[::"))), "no https://", id="half an address"
        ),
        pytest.param(
            entity(idp(services=service(location="https://a:b@c/"))), "no https://", id="a password in it"
        ),
        pytest.param(
            entity(idp(services=f'<md:SingleSignOnService Binding="{BINDING}POST"/>')),
            "no https://",
            id="a service without a location",
        ),
        pytest.param(entity(idp(keys="")), "no KeyDescriptor for signing", id="no key"),
        pytest.param(
            entity(idp(key(use=' use="encryption"'))),
            "no KeyDescriptor for signing",
            id="a key for encryption",
        ),
        pytest.param(
            entity(idp(NOTHING)), "no KeyDescriptor for signing has", id="a key without certificate"
        ),
        pytest.param(
            entity(idp(key(SECRET))), "signing certificate 1 of 1 is not the base64", id="no base64"
        ),
        pytest.param(
            entity(idp(key() + key(base64.b64encode(b"DER").decode()))),
            "signing certificate 2 of 2 is not the base64 of an X.509 certificate",
            id="no certificate",
        ),
        pytest.param(entity(idp(key(VALID[:-40]))), "not the base64", id="half a certificate"),
        pytest.param(
            entity(idp(key(f"-----BEGIN CERTIFICATE-----{VALID}-----END CERTIFICATE-----"))),
            "not the base64",
            id="a PEM file",
        ),
        pytest.param(
            entity(idp(attributes=f'validUntil="{SECRET}"')), "a validUntil", id="an end that is no moment"
        ),
    ],
)
def test_what_will_not_do_is_told_without_a_quote(document: str, words: str) -> None:
    started = time.monotonic()
    verdict = saml_metadata.check(document.encode(), NOW)
    assert time.monotonic() - started < 1
    assert (verdict.reason, verdict.valid, verdict.ends_at) == ("MetadataInvalid", False, None)
    assert words in verdict.message
    assert SECRET not in verdict.message


@pytest.mark.parametrize("document", [None, b"", b" \n"], ids=["none", "empty", "blank"])
def test_metadata_that_are_not_there_are_missing(document: bytes | None) -> None:
    assert saml_metadata.check(document, NOW).reason == "MetadataMissing"


TOMORROW = (NOW + DAY).strftime("%Y-%m-%dT%H:%M:%SZ")
YESTERDAY = (NOW - DAY).strftime("%Y-%m-%dT%H:%M:%SZ")


@pytest.mark.parametrize(
    ("document", "reason", "words", "ends"),
    [
        pytest.param(entity(), "MetadataValid", "ends at 2027-09-20", 300, id="for long"),
        pytest.param(
            entity(idp(key(SOON))),
            "CertificateEndsSoon",
            "ends at 2026-12-24T12:00:00Z",
            30,
            id="for 30 days",
        ),
        pytest.param(
            entity(idp(key(certificate(-1, 31)))), "MetadataValid", "ends at 2026-12-25", 31, id="for 31 days"
        ),
        pytest.param(
            entity(idp(key(SOON) + key())),
            "MetadataValid",
            "ends at 2026-12-24T12:00:00Z, others are valid until 2027-09-20",
            30,
            id="the next one is there",
        ),
        pytest.param(
            entity(idp(key(SOON) + key(EARLY))),
            "MetadataValid",
            "ends at 2026-12-24T12:00:00Z, others are valid until 2027-09-20",
            30,
            id="the next one begins in time",
        ),
        pytest.param(
            entity(idp(key(SOON) + key(certificate(40, 300)))),
            "CertificateEndsSoon",
            "ends at 2026-12-24",
            30,
            id="the next one begins too late",
        ),
        pytest.param(
            entity(idp(key(ENDED) + key())),
            "MetadataValid",
            "ends at 2027-09-20",
            300,
            id="the last one is there",
        ),
        pytest.param(
            entity(idp(key(ENDED))), "CertificateExpired", "ended at 2026-11-23T12:00:00Z", -1, id="ended"
        ),
        pytest.param(
            entity(idp(key(certificate(-50, -20)) + key(ENDED))),
            "CertificateExpired",
            "the last signing certificate ended at 2026-11-23",
            -1,
            id="all have ended",
        ),
        pytest.param(
            entity(idp(key(EARLY))),
            "CertificateNotYetValid",
            "before 2026-11-25T12:00:00Z",
            300,
            id="not yet",
        ),
        pytest.param(
            entity(idp(key(ENDED) + key(EARLY))),
            "CertificateNotYetValid",
            "before 2026-11-25",
            300,
            id="a gap",
        ),
        pytest.param(
            entity(name=f'entityID="a" validUntil="{YESTERDAY}"'),
            "MetadataExpired",
            "ended at 2026-11-23T12:00:00Z (validUntil)",
            -1,
            id="the entity has ended",
        ),
        pytest.param(
            entity(idp(attributes=f'validUntil="{YESTERDAY}"')),
            "MetadataExpired",
            "",
            -1,
            id="the role has ended",
        ),
        pytest.param(
            several(entity(), attributes='validUntil="2026-11-24T13:00:00+02:00"'),
            "MetadataExpired",
            "ended at 2026-11-24T11:00:00Z",
            -1 / 24,
            id="what it stands in has ended, in another zone",
        ),
        pytest.param(
            entity(name=f'entityID="a" validUntil="{TOMORROW[:-1]}"'),
            "MetadataValid",
            "the metadata themselves end at 2026-11-25T12:00:00Z",
            1,
            id="an end soon, without a zone",
        ),
    ],
)
def test_the_clock_decides(document: str, reason: str, words: str, ends: float) -> None:
    verdict = saml_metadata.check(document.encode(), NOW)
    assert (verdict.reason, verdict.ends_at) == (reason, NOW + ends * DAY), verdict.message
    assert words in verdict.message
    assert verdict.valid == (reason in ("MetadataValid", "CertificateEndsSoon"))
