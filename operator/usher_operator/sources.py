"""Reads the Secrets and ConfigMaps that a tenant names, one get each.

`looks` hands it to the core's reconciliation. In a cluster of many tenants what was there is believed for a
while, so that looking after all of them costs the API server little; `handlers` has forgotten what changed.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

from kubernetes.aio import client

from usher_operator import clients

Values: TypeAlias = Mapping[str, bytes]
Place: TypeAlias = tuple[str, str, str]
"""Kind, namespace and name."""


class KubernetesSources:
    """The core's `Sources`, in Kubernetes."""

    def __init__(self, api: client.CoreV1Api) -> None:
        self._api = api

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Read the values of a Secret; `None` when there is none of that name.

        Raises:
            SourceUnavailable: try again.
        """
        try:
            with clients.asking(f"Secret {name}"):
                found = await self._api.read_namespaced_secret(
                    name, namespace, _request_timeout=clients.REQUEST_TIMEOUT
                )
        except clients.KubernetesUnavailable as exc:
            if exc.status == 404:
                return None
            raise
        return {key: decoded(value) for key, value in (found.data or {}).items()}

    async def get_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Read the values of a ConfigMap; `None` when there is none of that name.

        Raises:
            SourceUnavailable: try again.
        """
        try:
            with clients.asking(f"ConfigMap {name}"):
                found = await self._api.read_namespaced_config_map(
                    name, namespace, _request_timeout=clients.REQUEST_TIMEOUT
                )
        except clients.KubernetesUnavailable as exc:
            if exc.status == 404:
                return None
            raise
        texts = {key: value.encode() for key, value in (found.data or {}).items()}
        return texts | {key: decoded(value) for key, value in (found.binary_data or {}).items()}


class RememberedSources:
    """Sources that are believed for `life()` seconds; what is missing is asked for anew each time."""

    def __init__(self, sources: KubernetesSources, life: Callable[[], float]) -> None:
        self._sources = sources
        self._life = life
        self._kept: dict[Place, tuple[float, Values]] = {}

    async def get_secret(self, namespace: str, name: str) -> Values | None:
        """Read the values of a Secret, or remember them.

        Raises:
            SourceUnavailable: try again.
        """
        place = ("Secret", namespace, name)
        return self._remembered(place) or self._keep(place, await self._sources.get_secret(namespace, name))

    async def get_config_map(self, namespace: str, name: str) -> Values | None:
        """Read the values of a ConfigMap, or remember them.

        Raises:
            SourceUnavailable: try again.
        """
        place = ("ConfigMap", namespace, name)
        return self._remembered(place) or self._keep(
            place, await self._sources.get_config_map(namespace, name)
        )

    def forget(self, kind: str, namespace: str, name: str) -> None:
        """Have a source read anew when it is needed next."""
        self._kept.pop((kind, namespace, name), None)

    def _remembered(self, place: Place) -> Values | None:
        kept = self._kept.get(place)
        return kept[1] if kept is not None and time.monotonic() < kept[0] else None

    def _keep(self, place: Place, values: Values | None) -> Values | None:
        life = self._life()
        if values is None or not life:
            self._kept.pop(place, None)
        else:
            self._kept[place] = (time.monotonic() + life, values)
        return values


def decoded(value: str | bytes) -> bytes:
    """Decode a value of a Secret; one that is no base64 is empty."""
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return b""
