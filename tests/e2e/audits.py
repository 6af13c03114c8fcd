"""What a service account asked of the API server, out of the audit log; and what its roles allow.

The tests of the operator's rights use it. Invariant: a request counts once, at whatever stages it was
recorded.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple


class Right(NamedTuple):
    """A verb on a resource of a group; a subresource is written after a slash, as in a Role."""

    group: str
    resource: str
    verb: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}" + (f".{self.group}" if self.group else "")


@dataclasses.dataclass(frozen=True)
class Request:
    """A request; `right` is None when it was for a path that is no resource."""

    right: Right | None
    namespace: str | None
    uri: str
    status: int


def requests_of(account: str, log: Path) -> list[Request]:
    """List what an account, `system:serviceaccount:NAMESPACE:NAME`, has asked so far, the oldest first."""
    found: dict[str, Request] = {}
    for line in log.read_text().splitlines():
        event = json.loads(line)
        if event["user"]["username"] == account:
            found[event["auditID"]] = _request(event)
    return list(found.values())


def _request(event: dict[str, Any]) -> Request:
    target, right = event.get("objectRef"), None
    if target is not None:
        resource = "/".join(filter(None, (target["resource"], target.get("subresource"))))
        right = Right(target.get("apiGroup", ""), resource, event["verb"])
    return Request(
        right, (target or {}).get("namespace"), event["requestURI"], event["responseStatus"].get("code", 0)
    )


def rights_in(roles: Iterable[dict[str, Any]]) -> set[Right]:
    """List what Roles and ClusterRoles allow."""
    return {
        Right(group, resource, verb)
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
