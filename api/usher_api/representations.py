"""Resources as clients see them: meta, locations, computed attributes, and only what was asked for."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

from usher_core.changes import snapshots
from usher_core.scim import projections, schemas
from usher_core.store import resources


@dataclasses.dataclass(frozen=True, slots=True)
class Presenter:
    """Represents resources of one type to one client: `base_url` ends without a slash."""

    registry: schemas.Registry
    resource_type: schemas.ResourceType
    base_url: str
    projection: projections.Projection

    @property
    def relations(self) -> resources.Relations:
        """What must be read along with the resource."""
        return resources.Relations(
            groups=bool(self.resource_type.computed) and self.projection.wants("groups"),
            members=bool(self.resource_type.stored_apart) and self.projection.wants("members"),
        )

    def location(self, stored: snapshots.Stored) -> str:
        """Make the URL of the resource (RFC 7643 §3.1)."""
        return f"{self.base_url}/{self.resource_type.endpoint}/{stored.id}"

    def represent(self, resource: resources.Resource) -> dict[str, Any]:
        """Build the representation (RFC 7643 §3): what is always first stands first."""
        stored = resource.stored
        document: dict[str, Any] = {"schemas": stored.document["schemas"], "id": str(stored.id)}
        document.update(stored.document)
        if resource.groups:
            document["groups"] = [self._group(group) for group in resource.groups]
        if resource.members:
            document["members"] = [self._member(member) for member in resource.members]
        created = timestamp(stored.created_at)
        untouched = stored.modified_at == stored.created_at
        document["meta"] = {
            "resourceType": self.resource_type.name,
            "created": created,
            "lastModified": created if untouched else timestamp(stored.modified_at),
            "location": self.location(stored),
            "version": etag(stored.version, fenced=resource.fenced),
        }
        return self.projection.apply(document)

    def _group(self, group: dict[str, Any]) -> dict[str, Any]:
        endpoint = self.registry.by_name("Group").endpoint
        return {"type": "direct", "$ref": f"{self.base_url}/{endpoint}/{group['value']}"} | group

    def _member(self, member: dict[str, Any]) -> dict[str, Any]:
        endpoint = self.registry.by_name(member["type"]).endpoint
        shown = {"value": member["value"], "$ref": f"{self.base_url}/{endpoint}/{member['value']}"}
        if member["display"] is not None:
            shown["display"] = member["display"]
        return shown | {"type": member["type"]}


def etag(version: int, *, fenced: bool = False) -> str:
    """Write a version as a weak entity tag (RFC 7644 §3.14).

    `fenced`: something of it reads as taken away before its turn, so that it is neither this version nor the
    next one; no change can be made to depend on such a state.
    """
    return f'W/"{version}.fenced"' if fenced else f'W/"{version}"'


def timestamp(moment: datetime.datetime) -> str:
    """Write a moment as RFC 7643 §2.3.5 wants it: UTC, milliseconds."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
