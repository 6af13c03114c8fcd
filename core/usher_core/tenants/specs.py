"""The spec of a ScimTenant, field by field, under the CRD's own rules.

Called by `manifests`, which reads whole objects. Invariant: what the CRD refuses is refused here, in words
that name the field; the defaults are the CRD's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal, Self, TypeAlias

import pydantic
import pydantic.alias_generators
import pydantic_core

from usher_core.tenants import durations, tokens

PATH: Literal["/iam/scim/v2"] = "/iam/scim/v2"

LABEL = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
OBJECT_NAME = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"
_HOST = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$"

Action: TypeAlias = Literal["CreateUsers", "UpdateUsers", "DeactivateUsers", "DeleteUsers", "PushGroups"]
ALL_ACTIONS: tuple[Action, ...] = (
    "CreateUsers", "UpdateUsers", "DeactivateUsers", "DeleteUsers", "PushGroups",
)  # fmt: skip


def _rule(message: str) -> pydantic_core.PydanticCustomError:
    return pydantic_core.PydanticCustomError("rule", "{message}", {"message": message})


def _duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        return durations.parse(value)
    except ValueError as exc:
        raise _rule(str(exc)) from None


Duration: TypeAlias = Annotated[timedelta, pydantic.BeforeValidator(_duration)]
ObjectName: TypeAlias = Annotated[str, pydantic.Field(min_length=1, max_length=253, pattern=OBJECT_NAME)]
Key: TypeAlias = Annotated[str, pydantic.Field(min_length=1, max_length=253, pattern=r"^[-._a-zA-Z0-9]+$")]
Rate: TypeAlias = Annotated[int, pydantic.Field(ge=1, le=100_000)]


class Part(pydantic.BaseModel):
    """A piece of a manifest: camelCase outside, frozen, unknown fields and wrong types refused."""

    model_config = pydantic.ConfigDict(
        alias_generator=pydantic.alias_generators.to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        strict=True,
    )


class Endpoint(Part):
    """Where the tenant is served; without a host, at the shared one."""

    host: Annotated[str, pydantic.Field(min_length=1, max_length=253, pattern=_HOST)] | None = None
    path: Literal["/iam/scim/v2"] = PATH


class TokenSecretRef(Part):
    """The Secret, in the tenant's namespace, that a token is written to."""

    name: ObjectName
    key: Key = "token"

    @pydantic.model_validator(mode="after")
    def _leaves_room_for_what_stands_beside(self) -> Self:
        if self.key == "base_url" or self.key.endswith(".expires_at") or self.key == "expires_at":
            raise _rule(
                "secretRef.key must not be base_url, expires_at or end with .expires_at, "
                "which stand beside the token"
            )
        return self


class Token(Part):
    """One bearer token that the tenant wants."""

    name: Annotated[str, pydantic.Field(min_length=1, max_length=63, pattern=LABEL)]
    ttl: Duration = timedelta(hours=2160)
    renew_before: Duration = timedelta(hours=720)
    overlap: Duration = timedelta(hours=24)
    secret_ref: TokenSecretRef
    role: tokens.Role = "administrator"

    @pydantic.model_validator(mode="after")
    def _lives_long_enough(self) -> Self:
        if not timedelta(hours=1) <= self.ttl <= tokens.LONGEST_LIFE:
            raise _rule("ttl must be between 1h and 8760h (365 days)")
        if not self.renew_before < self.ttl:
            raise _rule("renewBefore must be shorter than ttl")
        if not self.overlap <= self.renew_before:
            raise _rule("overlap must not be longer than renewBefore")
        return self


class MetadataRef(Part):
    """A key of a Secret or ConfigMap, in the tenant's namespace, that holds SAML metadata."""

    name: ObjectName
    key: Key = "metadata.xml"


class Saml(Part):
    """Where the identity provider's SAML metadata are found."""

    metadata_secret_ref: MetadataRef | None = None
    metadata_config_map_ref: MetadataRef | None = None

    @pydantic.model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.metadata_secret_ref is None) == (self.metadata_config_map_ref is None):
            raise _rule("set exactly one of metadataSecretRef and metadataConfigMapRef")
        return self


class Sso(Part):
    """SAML single sign-on; when it is Required nothing is provisioned before it is valid."""

    mode: Literal["Required", "Optional"] = "Required"
    saml: Saml | None = None


class ConfigMapRef(Part):
    """A ConfigMap in the tenant's namespace."""

    name: ObjectName


class Compatibility(Part):
    """Where answers follow the identity provider more closely than the RFC."""

    user_patch_status: Literal["200", "204"] = "200"
    group_patch_status: Literal["200", "204"] = "204"
    pathless_patch: Literal["Accept", "Reject"] = "Accept"
    unknown_attributes: Literal["Ignore", "Reject"] = "Ignore"
    revive_inactive: bool = True
    deleted_retention: Duration = timedelta(hours=720)


class Provisioning(Part):
    """What the identity provider may do, and how its dialect is met."""

    actions: Annotated[tuple[Action, ...], pydantic.Field(strict=False, max_length=5)] = ALL_ACTIONS
    user_name_format: Literal["Email", "Any"] = "Email"
    schemas_config_map_ref: ConfigMapRef | None = None
    compatibility: Compatibility = Compatibility()

    @pydantic.model_validator(mode="after")
    def _actions_fit_together(self) -> Self:
        if len(set(self.actions)) != len(self.actions):
            raise _rule("actions must not name one action twice")
        if "PushGroups" in self.actions and "CreateUsers" not in self.actions:
            raise _rule("PushGroups needs CreateUsers, for the members of a group are users of the tenant")
        return self


class Limits(Part):
    """How much the tenant may ask of the service."""

    requests_per_second: Rate | None = None
    reads_per_second: Rate | None = None
    max_pending_changes: Annotated[int, pydantic.Field(ge=1, le=10_000_000)] = 100_000


class Spec(Part):
    """What the tenant should be."""

    display_name: Annotated[str, pydantic.Field(min_length=1, max_length=256)] | None = None
    endpoint: Endpoint = Endpoint()
    tokens: Annotated[tuple[Token, ...], pydantic.Field(strict=False, min_length=1, max_length=10)]
    sso: Sso = Sso()
    provisioning: Provisioning = Provisioning()
    limits: Limits = Limits()
    suspend: bool = False
    suspend_revocations: bool = False
    deletion_policy: Literal["Retain", "Delete"] = "Retain"

    @pydantic.model_validator(mode="after")
    def _holds_together(self) -> Self:
        if len({token.name for token in self.tokens}) != len(self.tokens):
            raise _rule("tokens must have names of their own")
        if len({token.secret_ref for token in self.tokens}) != len(self.tokens):
            raise _rule("each token needs a secretRef of its own, another name or another key")
        if not self.suspend and self.sso.mode == "Required" and self.sso.saml is None:
            raise _rule(
                "sso.saml must be set while sso.mode is Required; "
                "set sso.mode to Optional or suspend the tenant to do without"
            )
        return self
