"""Reads the Secrets and ConfigMaps that a tenant names, one get each: no list, no watch.

`handlers` hands it to the core's reconciliation.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping

from kubernetes.aio import client

from usher_operator import clients


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


def decoded(value: str | bytes) -> bytes:
    """Decode a value of a Secret; one that is no base64 is empty."""
    try:
        return base64.b64decode(value, validate=True)
    except binascii.Error:
        return b""
