"""Kubernetes events about a ScimTenant: what a person would want to know, where `kubectl describe` shows it.

`looks` announces, each thing once: what happened, and what is wrong when it begins to be. Invariant: an event
that can't be posted is lost and hinders nothing, for the status and the log tell the same.
"""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from typing import Literal

import structlog
from kubernetes.aio import client

from usher_operator import clients, moments
from usher_operator.inventories import Body

LONGEST = 1024  # characters of a message, by the API server's rule
COMPONENT = "usher-operator"

log = structlog.get_logger(__name__)


class Announcer:
    """Posts events."""

    def __init__(self, api: client.CoreV1Api) -> None:
        self._api = api

    async def announce(
        self, body: Body, type_: Literal["Normal", "Warning"], reason: str, message: str
    ) -> None:
        """Post one event about an object."""
        metadata = body["metadata"]
        now = moments.text_of(datetime.now(UTC))
        event = {
            "metadata": {"name": f"usher-{secrets.token_hex(8)}", "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": body["apiVersion"],
                "kind": body["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": type_,
            "reason": reason,
            "message": message if len(message) <= LONGEST else f"{message[: LONGEST - 1]}…",
            "source": {"component": COMPONENT},
            "reportingComponent": COMPONENT,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        }
        try:
            with clients.asking(f"an event about ScimTenant {metadata['name']}"):
                await self._api.create_namespaced_event(
                    metadata["namespace"],
                    client.CoreV1Event.model_validate(event),
                    _request_timeout=clients.REQUEST_TIMEOUT,
                )
        except clients.KubernetesUnavailable as exc:
            log.warning("event not posted", tenant=metadata["name"], reason=str(exc))
