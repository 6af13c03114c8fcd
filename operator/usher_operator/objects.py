"""Patches of ScimTenants: their status, their finalizer, and the annotation that asks for a rotation.

`looks` and `statistics` write through it. Invariant: a patch names the uid that it is meant for, so that an
object of the same name that was made meanwhile is left alone; metadata are changed only in the version that
was looked at.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from kubernetes.aio import client

from usher_core.tenants import manifests
from usher_operator import clients, inventories, metrics
from usher_operator.inventories import Body

PLURAL = "scimtenants"
FINALIZER = "usher.dev/operator"

_MERGE = "application/merge-patch+json"


class Objects:
    """The ScimTenants of the API server; each answer goes into the inventory."""

    def __init__(self, api: client.ApiClient, inventory: inventories.Inventory) -> None:
        self._api = client.CustomObjectsApi(api)
        self._inventory = inventory

    async def patch_status(self, body: Body, changes: dict[str, Any]) -> None:
        """Change fields of the status; `None` takes one away.

        Raises:
            KubernetesUnavailable: 404 and 409 mean that the object is gone.
        """
        key, metadata = inventories.key_of(body), {"uid": body["metadata"]["uid"]}
        with self._asking(body, f"the status of ScimTenant {key.name}"):
            answer = await self._api.patch_namespaced_custom_object_status(
                manifests.GROUP, manifests.VERSION, key.namespace, PLURAL, key.name,
                {"metadata": metadata, "status": changes},
                _content_type=_MERGE, _request_timeout=clients.REQUEST_TIMEOUT,
            )  # fmt: skip
        metrics.STATUSES.inc()
        self._take_in(answer)

    async def patch_metadata(self, body: Body, changes: dict[str, Any]) -> None:
        """Change metadata of exactly the version that was looked at.

        Raises:
            KubernetesUnavailable: 409 means that the object is another one by now: look again.
        """
        key = inventories.key_of(body)
        standing = {name: body["metadata"][name] for name in ("uid", "resourceVersion")}
        with self._asking(body, f"the metadata of ScimTenant {key.name}"):
            answer = await self._api.patch_namespaced_custom_object(
                manifests.GROUP, manifests.VERSION, key.namespace, PLURAL, key.name,
                {"metadata": standing | changes},
                _content_type=_MERGE, _request_timeout=clients.REQUEST_TIMEOUT,
            )  # fmt: skip
        self._take_in(answer)

    @contextlib.contextmanager
    def _asking(self, body: Body, what: str) -> Iterator[None]:
        try:
            with clients.asking(what):
                yield
        except clients.KubernetesUnavailable as exc:
            if exc.status == 404:
                # A watch that had to begin anew tells of what is there, not of what has gone meanwhile.
                self._inventory.drop(body)
            raise

    def _take_in(self, answer: object) -> None:
        # The answer to taking the last finalizer off is an object that is no more.
        if isinstance(answer, dict) and not _is_over(answer) and "uid" in answer.get("metadata", {}):
            self._inventory.put(answer)


def _is_over(body: Body) -> bool:
    return bool(body["metadata"].get("deletionTimestamp")) and not body["metadata"].get("finalizers")
