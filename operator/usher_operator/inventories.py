"""The ScimTenants as the watch, and the answers to our own patches, last told of them.

`handlers` puts what the watch says, `objects` what a patch answered; everything else reads. Invariant: an
older version never takes the place of a younger one.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping
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
        self._sources: collections.Counter[tuple[str, str, str]] = collections.Counter()

    @property
    def sources(self) -> int:
        """How many Secrets and ConfigMaps hold metadata and schemas; one that is shared counts once."""
        return len(self._sources)

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
        if before is not None:
            if _is_older(body, before):
                return False
            self._forget_sources(before)
        self._bodies[key] = body
        self._sources.update(_sources(body))
        return True

    def drop(self, body: Body) -> None:
        """Forget an object that is gone, unless another one has its name by now."""
        key = key_of(body)
        before = self._bodies.get(key)
        if before is not None and before["metadata"]["uid"] == body["metadata"]["uid"]:
            del self._bodies[key]
            self._forget_sources(before)

    def _forget_sources(self, body: Body) -> None:
        for place in _sources(body):
            self._sources[place] -= 1
            if not self._sources[place]:
                del self._sources[place]

    def naming(self, namespace: str, kind: str, name: str) -> Iterator[Key]:
        """Find the tenants that name a Secret or ConfigMap of their namespace."""
        for key, body in tuple(self._bodies.items()):
            if key.namespace == namespace and (kind, name) in references(body):
                yield key


def references(body: Body) -> set[tuple[str, str]]:
    """List the Secrets and ConfigMaps that an object names, as kind and name; what is malformed is none."""
    refs = [token.get("secretRef") for token in (body.get("spec") or {}).get("tokens") or ()]
    named = {(kind, name) for _, kind, name in _sources(body)}
    return named | {("Secret", name) for name in _names(refs)}


def _sources(body: Body) -> set[tuple[str, str, str]]:
    """List what an object's metadata and schemas are read from: namespace, kind and name."""
    spec, namespace = body.get("spec") or {}, body["metadata"]["namespace"]
    saml = (spec.get("sso") or {}).get("saml") or {}
    secrets = [saml.get("metadataSecretRef")]
    config_maps = [
        saml.get("metadataConfigMapRef"),
        (spec.get("provisioning") or {}).get("schemasConfigMapRef"),
    ]
    named = {(namespace, "Secret", name) for name in _names(secrets)}
    return named | {(namespace, "ConfigMap", name) for name in _names(config_maps)}


def _names(refs: Iterable[Any]) -> Iterator[str]:
    return (ref["name"] for ref in refs if isinstance(ref, Mapping) and "name" in ref)


def _is_older(body: Body, before: Body) -> bool:
    metadata, standing = body["metadata"], before["metadata"]
    if metadata["uid"] != standing["uid"]:
        return False
    try:
        # Versions of one resource are numbers that grow; where they are none, the last word counts.
        return int(metadata["resourceVersion"]) < int(standing["resourceVersion"])
    except ValueError:
        return False
