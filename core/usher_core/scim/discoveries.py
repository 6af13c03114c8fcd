"""Discovery (RFC 7644 §4): what the service can do, which resource types and schemas it has.

The api answers with these objects as they are. They promise nothing that the service does not do.
"""

from __future__ import annotations

from typing import Any

from usher_core.scim import messages
from usher_core.scim.schemas import (
    SERVICE_PROVIDER_CONFIG,
    Registry,
    ResourceType,
    Schema,
    dump_resource_type,
    dump_schema,
)


def service_provider_config(
    base_url: str,
    *,
    patch: bool = True,
    bulk: bool = True,
    bulk_operations: int = 1000,
    bulk_payload: int = 1_048_576,
    max_results: int = 200,
    default_page_size: int = 100,
    cursor_lifetime: int = 3600,
    documentation_uri: str | None = None,
) -> dict[str, Any]:
    """Describe the service (RFC 7643 §5); `base_url` is that of the tenant, without a slash at its end.

    `patch` and `bulk` are off where the tenant lets none succeed: more than these two of what a tenant's
    `actions` leave out has no name in RFC 7643. `bulk_payload` in bytes, `cursor_lifetime` in seconds.
    """
    config: dict[str, Any] = {"schemas": [SERVICE_PROVIDER_CONFIG]}
    if documentation_uri is not None:
        config["documentationUri"] = documentation_uri
    return config | {
        "patch": {"supported": patch},
        "bulk": {"supported": bulk, "maxOperations": bulk_operations, "maxPayloadSize": bulk_payload},
        "filter": {"supported": True, "maxResults": max_results},
        "changePassword": {"supported": False},
        "sort": {"supported": True},
        "etag": {"supported": True},
        "pagination": {  # RFC 9865 §4
            "cursor": True,
            "index": True,
            "defaultPaginationMethod": "index",
            "defaultPageSize": min(default_page_size, max_results),
            "maxPageSize": max_results,
            "cursorTimeout": cursor_lifetime,
        },
        "authenticationSchemes": [
            {
                # RFC 7643 §5 has this one name for bearer tokens, whoever issues them.
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "A token issued by this service for the tenant, sent in the header "
                "Authorization after the word Bearer. Neither Basic nor an OAuth flow is offered.",
                "specUri": "https://www.rfc-editor.org/info/rfc6750",
                "primary": True,
            }
        ],
        "meta": _meta("ServiceProviderConfig", f"{base_url}/ServiceProviderConfig"),
    }


def resource_types(registry: Registry, base_url: str) -> dict[str, Any]:
    """List the resource types (RFC 7643 §6)."""
    return _all([resource_type(item, base_url) for item in registry.resource_types])


def resource_type(described: ResourceType, base_url: str) -> dict[str, Any]:
    """Describe one resource type."""
    location = f"{base_url}/ResourceTypes/{described.name}"
    return dump_resource_type(described) | {"meta": _meta("ResourceType", location)}


def schemas(registry: Registry, base_url: str) -> dict[str, Any]:
    """List the schemas (RFC 7643 §7)."""
    return _all([schema(item, base_url) for item in registry.schemas])


def schema(described: Schema, base_url: str) -> dict[str, Any]:
    """Describe one schema."""
    return dump_schema(described) | {"meta": _meta("Schema", f"{base_url}/Schemas/{described.id}")}


def _meta(name: str, location: str) -> dict[str, str]:
    return {"resourceType": name, "location": location}


def _all(resources: list[dict[str, Any]]) -> dict[str, Any]:
    return messages.list_response(resources, len(resources))
