"""A tenant's SAML metadata: do they describe the one identity provider that users can sign in at now.

Called by `checks` on each look at a tenant. What is checked is what a service provider needs: an entity id,
a place to send users to, and a certificate to check answers by. A signature on the metadata is not: who may
write the Secret or ConfigMap is trusted. Invariant: no entity is expanded, nothing is fetched, and no message
quotes the document, which may come out of a Secret.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias

from lxml import etree  # type: ignore[import-untyped]

from usher_core.tenants import saml_certificates

LARGEST = (
    1024 * 1024
)  # bytes, as much as a Secret holds; federation aggregates are larger and don't belong here
LONGEST_ENTITY_ID = 1024  # SAML metadata §2.2.1
METADATA = "urn:oasis:names:tc:SAML:2.0:metadata"
SIGNATURES = "http://www.w3.org/2000/09/xmldsig#"
PROTOCOL = "urn:oasis:names:tc:SAML:2.0:protocol"
BINDINGS = frozenset(f"urn:oasis:names:tc:SAML:2.0:bindings:HTTP-{name}" for name in ("Redirect", "POST"))

Reason: TypeAlias = (
    Literal["MetadataValid", "MetadataMissing", "MetadataInvalid", "MetadataExpired"]
    | saml_certificates.Reason
)


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the metadata will do; `reason` and `message` go into the condition SSOReady."""

    reason: Reason
    message: str
    ends_at: datetime | None = None
    """When the first signing certificate, or the metadata themselves, end; `None` where nothing was read."""

    @property
    def valid(self) -> bool:
        """True while users can sign in by these metadata."""
        return self.reason in ("MetadataValid", "CertificateEndsSoon")


class _Invalid(Exception):
    """The metadata will not do; the message says why."""


def check(document: bytes | None, now: datetime) -> Verdict:
    """Judge the metadata of one tenant; `None` is a document that is not there."""
    if document is None or not document.strip():
        return Verdict("MetadataMissing", "there is no SAML metadata")
    try:
        entity, role = _provider(_root(document))
        _require_entity_id(entity)
        _require_location(role)
        periods = _signing(role)
        valid_until = _valid_until(role)
    except _Invalid as exc:
        return Verdict("MetadataInvalid", str(exc))
    return _by_clock(saml_certificates.judge(periods, now), valid_until, now)


def _by_clock(found: saml_certificates.Finding, valid_until: datetime | None, now: datetime) -> Verdict:
    if valid_until is not None and valid_until <= now:
        told = saml_certificates.told(valid_until)
        return Verdict("MetadataExpired", f"the SAML metadata ended at {told} (validUntil)", valid_until)
    if not found.valid:
        return Verdict(found.reason or "MetadataInvalid", found.message, found.ends_at)
    message, ends_at = f"the SAML metadata describe an identity provider; {found.message}", found.ends_at
    if valid_until is not None:
        ends_at = min(ends_at, valid_until)
        if valid_until - now <= saml_certificates.SOON:
            message += f"; the metadata themselves end at {saml_certificates.told(valid_until)} (validUntil)"
    return Verdict(found.reason or "MetadataValid", message, ends_at)


def _root(document: bytes) -> Any:
    if len(document) > LARGEST:
        raise _Invalid(f"the SAML metadata are larger than {LARGEST} bytes")
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError as exc:
        # The parser's words quote the document; the place alone is safe to tell.
        line, column = exc.position
        raise _Invalid(f"the SAML metadata are no well-formed XML (line {line}, column {column})") from None
    if root.getroottree().docinfo.doctype or root.getroottree().docinfo.internalDTD is not None:
        raise _Invalid("the SAML metadata hold a document type declaration, which is refused")
    return root


def _provider(root: Any) -> tuple[Any, Any]:
    """Find the one entity that is an identity provider, and its role."""
    if root.tag not in (_name("EntityDescriptor"), _name("EntitiesDescriptor")):
        raise _Invalid(f"the root is neither EntityDescriptor nor EntitiesDescriptor of {METADATA}")
    found = [
        (entity, role)
        for entity in _entities(root)
        for role in entity.iterchildren(_name("IDPSSODescriptor"))
    ]
    if not found:
        raise _Invalid("the SAML metadata have no IDPSSODescriptor: they describe no identity provider")
    speaking = [it for it in found if PROTOCOL in (it[1].get("protocolSupportEnumeration") or "").split()]
    if not speaking:
        raise _Invalid(f"no IDPSSODescriptor has {PROTOCOL} in its protocolSupportEnumeration")
    if len(speaking) > 1:
        raise _Invalid(
            f"the SAML metadata have {len(speaking)} IDPSSODescriptors: leave the tenant's own alone"
        )
    [one] = speaking
    return one


def _entities(element: Any) -> Iterator[Any]:
    if element.tag == _name("EntityDescriptor"):
        yield element
        return
    for below in element.iterchildren(_name("EntityDescriptor"), _name("EntitiesDescriptor")):
        yield from _entities(below)


def _require_entity_id(entity: Any) -> None:
    name = entity.get("entityID") or ""
    if not name.strip():
        raise _Invalid("the identity provider in the SAML metadata has no entityID")
    if len(name) > LONGEST_ENTITY_ID or name.split() != [name]:
        raise _Invalid(
            f"the entityID in the SAML metadata has white space, or more than {LONGEST_ENTITY_ID} characters"
        )


def _require_location(role: Any) -> None:
    """Insist on a place to send users to, over TLS: what they send there lets them in."""
    services = [
        service
        for service in role.iterchildren(_name("SingleSignOnService"))
        if service.get("Binding") in BINDINGS
    ]
    if not services:
        raise _Invalid(
            "the identity provider has no SingleSignOnService with the binding HTTP-Redirect or HTTP-POST"
        )
    if not all(_is_https(service.get("Location") or "") for service in services):
        raise _Invalid("the Location of a SingleSignOnService is no https:// URL")


def _is_https(location: str) -> bool:
    try:
        url = urllib.parse.urlsplit(location)
        return url.scheme == "https" and bool(url.hostname) and url.username is None and url.port != 0
    except ValueError:
        return False


def _signing(role: Any) -> list[saml_certificates.Period]:
    """Read the certificates that answers may be signed with: a key without a use has every use."""
    keys = [key for key in role.iterchildren(_name("KeyDescriptor")) if key.get("use") in (None, "signing")]
    if not keys:
        raise _Invalid("the identity provider has no KeyDescriptor for signing")
    texts: list[str] = []
    for key in keys:
        for data in key.iterfind(f"{{{SIGNATURES}}}KeyInfo/{{{SIGNATURES}}}X509Data"):
            # Of a chain the first certificate is the signer's own.
            texts += [
                "".join(it.itertext())
                for it in list(data.iterchildren(f"{{{SIGNATURES}}}X509Certificate"))[:1]
            ]
    if not texts:
        raise _Invalid("no KeyDescriptor for signing has an X509Certificate")
    periods = []
    for number, text in enumerate(texts, start=1):
        try:
            periods.append(saml_certificates.read(text))
        except saml_certificates.Unreadable as exc:
            raise _Invalid(f"signing certificate {number} of {len(texts)} is {exc}") from None
    return periods


def _valid_until(role: Any) -> datetime | None:
    """Find the first end that the role, its entity or what they stand in names."""
    texts = [it.get("validUntil") for it in (role, *role.iterancestors()) if it.get("validUntil") is not None]
    try:
        moments = [datetime.fromisoformat(text.strip()) for text in texts]
    except ValueError:
        raise _Invalid("a validUntil in the SAML metadata is no moment") from None
    return min((moment if moment.tzinfo else moment.replace(tzinfo=UTC) for moment in moments), default=None)


def _name(local: str) -> str:
    return f"{{{METADATA}}}{local}"
