"""What a tenant needs besides its tokens: SAML SSO and an endpoint of its own, judged as conditions.

Called by `reconciliations`. Invariant: reads only, and quotes nothing out of a Secret.
"""

from __future__ import annotations

import dataclasses
from datetime import datetime

from usher_core.store import databases, tenants
from usher_core.tenants import conditions, manifests, saml_metadata, sources, specs
from usher_core.tenants.conditions import Condition


@dataclasses.dataclass(frozen=True, slots=True)
class SingleSignOn:
    """Whether a tenant's users can sign in, and when what that needs ends; `None` where nothing was read."""

    condition: Condition
    ends_at: datetime | None = None


def url_of(spec: specs.Spec, base_url: str | None) -> str | None:
    """Compose the URL to enter at the identity provider; `None` when no host is known."""
    if spec.endpoint.host is not None:
        return f"https://{spec.endpoint.host}{spec.endpoint.path}"
    if base_url is None:
        return None
    return base_url.rstrip("/").removesuffix(spec.endpoint.path) + spec.endpoint.path


def suspended(spec: specs.Spec) -> Condition:
    """Tell whether the tenant is suspended."""
    if spec.suspend:
        return conditions.true("Suspended", "Suspended", "spec.suspend is true: requests are refused")
    return conditions.false("Suspended", "NotSuspended", "the tenant is not suspended")


def endpoint(url: str | None, conflict: Condition) -> Condition:
    """Tell whether the tenant is served somewhere."""
    if conflict.status == "True":
        return conditions.false("EndpointReady", conflict.reason, conflict.message)
    if url is None:
        return conditions.false(
            "EndpointReady",
            "PublicUrlUnknown",
            "set the service's public URL (USHER_PUBLIC_URL), or spec.endpoint.host",
        )
    return conditions.true("EndpointReady", "Served", f"the endpoint is {url}")


async def sso(manifest: manifests.ScimTenant, sources_: sources.Sources, now: datetime) -> SingleSignOn:
    """Read and judge the SAML metadata that the manifest names.

    Raises:
        SourceUnavailable: try again.
    """
    namespace, saml = manifest.metadata.namespace, manifest.spec.sso.saml
    if saml is None:
        return SingleSignOn(conditions.false("SSOReady", "NotConfigured", "there is no spec.sso.saml"))
    if saml.metadata_secret_ref is not None:
        ref, kind = saml.metadata_secret_ref, "Secret"
        values = await sources_.get_secret(namespace, ref.name)
    else:
        assert saml.metadata_config_map_ref is not None  # noqa: S101 - the manifest was validated
        ref, kind = saml.metadata_config_map_ref, "ConfigMap"
        values = await sources_.get_config_map(namespace, ref.name)
    if values is None:
        return _missing(f"there is no {kind} {ref.name} to hold the SAML metadata")
    if ref.key not in values:
        return _missing(f"{kind} {ref.name} has no key {ref.key} to hold the SAML metadata")
    verdict = saml_metadata.check(values[ref.key], now)
    make = conditions.true if verdict.valid else conditions.false
    message = f"{verdict.message} ({kind} {ref.name}, key {ref.key})"
    return SingleSignOn(make("SSOReady", verdict.reason, message), verdict.ends_at)


def _missing(message: str) -> SingleSignOn:
    return SingleSignOn(conditions.false("SSOReady", "MetadataMissing", message))


async def conflict(manifest: manifests.ScimTenant, database: databases.Database) -> Condition:
    """Tell whether the tenant's host is another one's.

    A host belongs to who had it first; of two who took it at the same moment, to the older one.
    """
    host = manifest.spec.endpoint.host
    if host is not None:
        claims = await tenants.find_host(database, host)
        if claims and claims[0].tenant != manifest.tenant:
            return conditions.true(
                "Conflict", "HostTaken", f"the host {host} is another ScimTenant's: this one is not served"
            )
    return conditions.false("Conflict", "NoConflict", "no other tenant asks for the same endpoint")
