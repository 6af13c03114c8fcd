"""A first look at a tenant's SAML metadata: is there any, and does it describe an identity provider.

Called by `reconciliations` on each look at a tenant. Invariant: no entity is expanded, nothing is
fetched, and no message quotes the document, which may come out of a Secret.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from lxml import etree  # type: ignore[import-untyped]

LARGEST = 1024 * 1024  # bytes; federation aggregates are larger and don't belong here
NAMESPACE = "urn:oasis:names:tc:SAML:2.0:metadata"  # SAML metadata §2


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the metadata will do; `reason` and `message` go into the condition SSOReady."""

    reason: Literal["MetadataValid", "MetadataMissing", "MetadataInvalid"]
    message: str

    @property
    def valid(self) -> bool:
        """True for metadata that describe an identity provider."""
        return self.reason == "MetadataValid"


def check(document: bytes | None) -> Verdict:
    """Judge the metadata of one tenant; `None` is a document that is not there."""
    if document is None or not document.strip():
        return Verdict("MetadataMissing", "there is no SAML metadata")
    if len(document) > LARGEST:
        return _invalid(f"the SAML metadata is larger than {LARGEST} bytes")
    root = _root(document)
    if isinstance(root, Verdict):
        return root
    name = etree.QName(root)
    if name.namespace != NAMESPACE or name.localname not in ("EntityDescriptor", "EntitiesDescriptor"):
        return _invalid(f"the root is neither EntityDescriptor nor EntitiesDescriptor of {NAMESPACE}")
    providers = [entity for entity in root.iter(f"{{{NAMESPACE}}}EntityDescriptor")
                 if entity.find(f"{{{NAMESPACE}}}IDPSSODescriptor") is not None]  # fmt: skip
    if not providers:
        return _invalid("the SAML metadata has no IDPSSODescriptor: it describes no identity provider")
    if not any((entity.get("entityID") or "").strip() for entity in providers):
        return _invalid("the identity provider in the SAML metadata has no entityID")
    return Verdict("MetadataValid", "the SAML metadata describes an identity provider")


def _root(document: bytes) -> Any:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, dtd_validation=False, huge_tree=False
    )
    try:
        root = etree.fromstring(document, parser)
    except etree.XMLSyntaxError as exc:
        # The parser's words quote the document; the place alone is safe to tell.
        line, column = exc.position
        return _invalid(f"the SAML metadata is no well-formed XML (line {line}, column {column})")
    if root.getroottree().docinfo.internalDTD is not None:
        return _invalid("the SAML metadata holds a document type declaration, which is refused")
    return root


def _invalid(message: str) -> Verdict:
    return Verdict("MetadataInvalid", message)
