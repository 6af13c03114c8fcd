"""Hands issued tokens over in Secrets.

A Secret of ours names its tenant in labels, its ScimTenant as owner (so that it goes with it), and each
token's checksum in an annotation, by which consumers notice a rotation. Beside a token stand the URL to enter
at the identity provider and when the token expires. Several tokens of one tenant may share a Secret under
different keys. Invariant: a Secret that is not ours is never changed.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from kubernetes.aio import client

from usher_core.tenants import vaults
from usher_operator import clients, moments, sources

MANAGED_BY = "usher-operator"
TENANT_LABEL = "usher.dev/tenant"
URL_KEY = "base_url"
EXPIRY_KEY = "expires_at"


@dataclasses.dataclass(frozen=True, slots=True)
class _Secret:
    """What of a Secret matters here."""

    uid: str | None
    version: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    owners: tuple[client.V1OwnerReference, ...]
    data: Mapping[str, str | bytes] = dataclasses.field(repr=False)


class KubernetesVault:
    """The core's `Vault`, for the tokens of one ScimTenant.

    `owner` is the ScimTenant as an owner reference: apiVersion, kind, name, uid.
    """

    def __init__(self, api: client.CoreV1Api, owner: dict[str, str]) -> None:
        self._api = api
        self._owner = owner
        # As they were read last, for the write that follows; a Secret that changed since refuses it.
        self._read: dict[str, _Secret | None] = {}

    def locate(self, ref: vaults.TokenRef) -> str:
        """Name the Secret and its key."""
        return f"{ref.namespace}/{ref.secret_name}/{ref.key}"

    async def read_token(self, ref: vaults.TokenRef, *, base_url: str | None) -> vaults.StoredToken | None:
        """Read the token; not complete when labels, owner, URL or checksum are missing or of another."""
        secret = self._read[ref.secret_name] = await self._get(ref)
        if secret is None:
            return None
        self._insist_on_ours(ref, secret)
        value = secret.data.get(ref.key)
        if value is None:
            return None
        text = sources.decoded(value).decode("ascii", errors="replace").strip()
        complete = (
            secret.annotations.get(f"checksum.usher.dev/{ref.token_name}") == checksum(text)
            and _text(secret, URL_KEY) == base_url
            and any(owner.uid == self._owner["uid"] for owner in secret.owners)
        )
        expiry = moments.read(_text(secret, _expiry_key(ref)) or "")
        return vaults.StoredToken(text, complete and expiry is not None, expiry)

    async def write_token(
        self, ref: vaults.TokenRef, text: str, *, base_url: str | None, expires_at: datetime
    ) -> None:
        """Create the Secret, or put the token into ours."""
        known = ref.secret_name in self._read
        secret = self._read.pop(ref.secret_name) if known else await self._get(ref)
        content: dict[str, Any] = {
            "metadata": {
                "labels": {"app.kubernetes.io/managed-by": MANAGED_BY, TENANT_LABEL: ref.tenant_name},
                "annotations": {
                    f"checksum.usher.dev/{ref.token_name}": checksum(text),
                },
                "ownerReferences": [*self._other_owners(secret), {**self._owner, "controller": True}],
            },
            "data": {
                ref.key: _encoded(text),
                _expiry_key(ref): _encoded(moments.text_of(expires_at)),
                URL_KEY: None if base_url is None else _encoded(base_url),
            },
        }
        if secret is None:
            await self._create(ref, content)
        else:
            self._insist_on_ours(ref, secret)
            await self._patch(ref, secret, content)

    async def delete_token(self, ref: vaults.TokenRef) -> None:
        """Delete the Secret, or only the key when other keys are left; one that is not ours stays."""
        secret = await self._get(ref)
        if secret is None or not self._is_ours(ref, secret) or ref.key not in secret.data:
            return
        own = {ref.key, _expiry_key(ref)}
        if any(key != URL_KEY and key not in own for key in secret.data):
            gone = {f"checksum.usher.dev/{ref.token_name}": None}
            data = dict.fromkeys(own)
            await self._patch(ref, secret, {"metadata": {"annotations": gone}, "data": data})
            return
        preconditions = client.V1Preconditions(uid=secret.uid, resource_version=secret.version)
        with clients.asking(f"deleting Secret {ref.secret_name}"):
            await self._api.delete_namespaced_secret(
                ref.secret_name,
                ref.namespace,
                body=client.V1DeleteOptions(preconditions=preconditions),
                _request_timeout=clients.REQUEST_TIMEOUT,
            )

    async def _get(self, ref: vaults.TokenRef) -> _Secret | None:
        try:
            with clients.asking(f"Secret {ref.secret_name}"):
                found = await self._api.read_namespaced_secret(
                    ref.secret_name, ref.namespace, _request_timeout=clients.REQUEST_TIMEOUT
                )
        except clients.KubernetesUnavailable as exc:
            if exc.status == 404:
                return None
            raise
        metadata = found.metadata or client.V1ObjectMeta()
        return _Secret(
            uid=metadata.uid,
            version=metadata.resource_version,
            labels=metadata.labels or {},
            annotations=metadata.annotations or {},
            owners=tuple(metadata.owner_references or ()),
            data=found.data or {},
        )

    async def _create(self, ref: vaults.TokenRef, content: dict[str, Any]) -> None:
        metadata = {**content["metadata"], "name": ref.secret_name}
        data = {key: value for key, value in content["data"].items() if value is not None}
        body = {"type": "Opaque", "metadata": metadata, "data": data}
        # One that was made meanwhile is a 409: the next try looks whose it is.
        with clients.asking(f"creating Secret {ref.secret_name}"):
            await self._api.create_namespaced_secret(
                ref.namespace, client.V1Secret.model_validate(body), _request_timeout=clients.REQUEST_TIMEOUT
            )

    async def _patch(self, ref: vaults.TokenRef, secret: _Secret, content: dict[str, Any]) -> None:
        # With the version that was looked at: one that was changed meanwhile is a 409, and looked at again.
        version = {"resourceVersion": secret.version}
        body = {**content, "metadata": {**content["metadata"], **version}}
        with clients.asking(f"patching Secret {ref.secret_name}"):
            await self._api.patch_namespaced_secret(
                ref.secret_name,
                ref.namespace,
                body,
                _content_type="application/merge-patch+json",
                _request_timeout=clients.REQUEST_TIMEOUT,
            )

    def _is_ours(self, ref: vaults.TokenRef, secret: _Secret) -> bool:
        return (
            secret.labels.get("app.kubernetes.io/managed-by") == MANAGED_BY
            and secret.labels.get(TENANT_LABEL) == ref.tenant_name
        )

    def _insist_on_ours(self, ref: vaults.TokenRef, secret: _Secret) -> None:
        if not self._is_ours(ref, secret):
            raise vaults.SecretNotOurs(
                f"Secret {ref.secret_name} exists and was not made for this tenant: it is left as it is; "
                "delete it, or name another one in secretRef"
            )

    def _other_owners(self, secret: _Secret | None) -> list[dict[str, Any]]:
        """List the owners but for us, under whatever uid: a tenant that was made anew owns it again."""
        return [
            owner.to_dict(serialize=True)
            for owner in (secret.owners if secret is not None else ())
            if (owner.kind, owner.name) != (self._owner["kind"], self._owner["name"])
        ]


def _expiry_key(ref: vaults.TokenRef) -> str:
    """Name the key of a token's expiry: `expires_at` for the usual key, else one that says whose it is."""
    return EXPIRY_KEY if ref.key == "token" else f"{ref.key}.{EXPIRY_KEY}"


def _text(secret: _Secret, key: str) -> str | None:
    value = secret.data.get(key)
    return None if value is None else sources.decoded(value).decode("utf-8", errors="replace")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def checksum(text: str) -> str:
    """Compute what tells one token from another, and leads back to none."""
    return hashlib.sha256(b"usher.dev/checksum\0" + text.encode()).hexdigest()[:16]
