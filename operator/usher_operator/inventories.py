"""The ScimTenants as the watch, and the answers to our own patches, last told of them.

`handlers` puts what the watch says, `objects` what a patch answered; everything else reads. Invariant: an
older version never takes the place of a younger one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Body = Mapping[str, Any]


class Key(NamedTuple):
    """What tells a tenant from all others."""

    namespace: str
    name: str


def key_of(body: Body) -> Key:
    """Name the tenant of an object."""
    return Key(body["metadata"]["namespace"], body["metadata"]["name"])


class Inventory:
    """All ScimTenants that are known."""

    def __init__(self) -> None:
        self._bodies: dict[Key, Body] = {}

    def __len__(self) -> int:
        return len(self._bodies)

    def __iter__(self) -> Iterator[Key]:
        return iter(tuple(self._bodies))

    def get(self, key: Key) -> Body | None:
        """Return the object, `None` when there is none."""
        return self._bodies.get(key)

    def put(self, body: Body) -> bool:
        """Take in what an object has become; tells whether that is news."""
        key = key_of(body)
        before = self._bodies.get(key)
        if before is not None and _is_older(body, before):
            return False
        self._bodies[key] = body
        return True

    def drop(self, body: Body) -> None:
        """Forget an object that is gone, unless another one has its name by now."""
        key = key_of(body)
        before = self._bodies.get(key)
        if before is not None and before["metadata"]["uid"] == body["metadata"]["uid"]:
            del self._bodies[key]

    def naming(self, namespace: str, kind: str, name: str) -> Iterator[Key]:
        """Find the tenants that name a Secret or ConfigMap of their namespace."""
        for key, body in tuple(self._bodies.items()):
            if key.namespace == namespace and (kind, name) in references(body):
                yield key


def references(body: Body) -> set[tuple[str, str]]:
    """List the Secrets and ConfigMaps that an object names, as kind and name; what is malformed is none."""
    spec = body.get("spec") or {}
    found = [("Secret", token.get("secretRef")) for token in spec.get("tokens") or ()]
    saml = (spec.get("sso") or {}).get("saml") or {}
    found += [("Secret", saml.get("metadataSecretRef")), ("ConfigMap", saml.get("metadataConfigMapRef"))]
    found.append(("ConfigMap", (spec.get("provisioning") or {}).get("schemasConfigMapRef")))
    return {(kind, ref["name"]) for kind, ref in found if ref and "name" in ref}


def _is_older(body: Body, before: Body) -> bool:
    metadata, standing = body["metadata"], before["metadata"]
    if metadata["uid"] != standing["uid"]:
        return False
    try:
        # Versions of one resource are numbers that grow; where they are none, the last word counts.
        return int(metadata["resourceVersion"]) < int(standing["resourceVersion"])
    except ValueError:
        return False
