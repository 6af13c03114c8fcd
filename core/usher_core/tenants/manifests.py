"""ScimTenant manifests: read, judged by the CRD's own rules, turned into values.

The operator hands over one object at a time (`parse`), `usher dev` a file or a folder (`load`). Invariant:
a tenant's id follows from its namespace and name alone, so that a tenant which comes back finds its data;
no repr and no message shows a value out of a Secret.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import pydantic
import pydantic_core
import structlog
import yaml

from usher_core import errors, ids
from usher_core.tenants import specs

GROUP = "usher.dev"
VERSION = "v1alpha1"
KIND = "ScimTenant"

ObjectKey: TypeAlias = tuple[str, str]
"""Namespace and name."""

log = structlog.get_logger(__name__)

_NAMESPACE = uuid.UUID("6d1f4bd2-6a0e-5f0c-9a57-3c5c1f7b8e21")


class Metadata(specs.Part):
    """What of an object's metadata matters here; the rest is Kubernetes' own."""

    model_config = pydantic.ConfigDict(extra="ignore")

    # 63, because it labels the tenant's Secrets.
    name: Annotated[str, pydantic.Field(min_length=1, max_length=63, pattern=specs.OBJECT_NAME)]
    namespace: Annotated[str, pydantic.Field(min_length=1, max_length=63, pattern=specs.LABEL)] = "default"


class ScimTenant(specs.Part):
    """One manifest, valid."""

    api_version: Literal["usher.dev/v1alpha1"]
    kind: Literal["ScimTenant"]
    metadata: Metadata
    spec: specs.Spec

    @property
    def tenant(self) -> ids.TenantId:
        """The tenant's id."""
        return tenant_id(self.metadata.namespace, self.metadata.name)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Manifests out of files, with the Secrets and ConfigMaps that they name; a `Sources` itself."""

    tenants: tuple[ScimTenant, ...]
    secrets: Mapping[ObjectKey, Mapping[str, bytes]] = dataclasses.field(repr=False)
    config_maps: Mapping[ObjectKey, Mapping[str, bytes]] = dataclasses.field(repr=False)

    async def get_secret(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Read the values of a Secret; `None` when there is none of that name."""
        return self.secrets.get((namespace, name))

    async def get_config_map(self, namespace: str, name: str) -> Mapping[str, bytes] | None:
        """Read the values of a ConfigMap; `None` when there is none of that name."""
        return self.config_maps.get((namespace, name))


def tenant_id(namespace: str, name: str) -> ids.TenantId:
    """Compute the id of a tenant, the same whenever one of that namespace and name is made."""
    return ids.TenantId(uuid.uuid5(_NAMESPACE, f"{namespace}/{name}"))


def parse(document: Mapping[str, Any], *, where: str | None = None) -> ScimTenant:
    """Read one ScimTenant; its status is ignored. `where` is put before the message.

    Raises:
        ManifestInvalid: naming each field that is wrong.
    """
    content = {key: value for key, value in document.items() if key != "status"}
    try:
        return ScimTenant.model_validate(content)
    except pydantic.ValidationError as exc:
        found = exc.errors(include_url=False, include_input=False)
        # An item that is wrong makes its list look too short as well.
        deepest = [error for error in found if not any(_is_inside(other, error) for other in found)]
        wrong = "; ".join(_told(error) for error in deepest)
        raise errors.ManifestInvalid(f"{where}: {wrong}" if where else wrong) from None


def _is_inside(inner: pydantic_core.ErrorDetails, outer: pydantic_core.ErrorDetails) -> bool:
    depth = len(outer["loc"])
    return len(inner["loc"]) > depth and inner["loc"][:depth] == outer["loc"]


def _told(error: pydantic_core.ErrorDetails) -> str:
    field = ""
    for part in error["loc"]:
        field += f"[{part}]" if isinstance(part, int) else f".{part}"
    words = {"extra_forbidden": "unknown field", "missing": "is required"}
    return f"{field.lstrip('.') or 'manifest'}: {words.get(error['type'], error['msg'])}"


def load(path: Path) -> Bundle:
    """Read a YAML file, or every *.yaml and *.yml of a folder, in the order of their names.

    Raises:
        ManifestInvalid: naming the file, the document (counted from 1) and the field.
    """
    tenants: dict[ObjectKey, ScimTenant] = {}
    secrets: dict[ObjectKey, Mapping[str, bytes]] = {}
    config_maps: dict[ObjectKey, Mapping[str, bytes]] = {}
    for where, document in _documents(path):
        match document.get("kind"):
            case "ScimTenant":
                tenant = parse(document, where=where)
                key = (tenant.metadata.namespace, tenant.metadata.name)
                if key in tenants:
                    raise errors.ManifestInvalid(f"{where}: a second ScimTenant {'/'.join(key)}")
                tenants[key] = tenant
            case "Secret":
                secrets[_key(document, where)] = _values(document, where, encoded="data", plain="stringData")
            case "ConfigMap":
                config_maps[_key(document, where)] = _values(
                    document, where, encoded="binaryData", plain="data"
                )
            case kind:
                log.info("manifest ignored", where=where, kind=kind)
    named_secrets, named_config_maps = _named(tenants.values())
    return Bundle(
        tuple(tenants.values()),
        {key: secrets[key] for key in named_secrets & secrets.keys()},
        {key: config_maps[key] for key in named_config_maps & config_maps.keys()},
    )


def _documents(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
    else:
        files = [path]
    for file in files:
        try:
            documents = list(yaml.safe_load_all(file.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as exc:
            raise errors.ManifestInvalid(f"{file}: can't be read ({type(exc).__name__})") from exc
        except yaml.YAMLError as exc:
            # Its own words quote the file, which may hold a Secret; the place alone is safe to tell.
            mark = getattr(exc, "problem_mark", None)
            place = f"line {mark.line + 1}" if mark else "unknown place"
            raise errors.ManifestInvalid(f"{file}: no valid YAML ({place})") from None
        for number, document in enumerate(documents, start=1):
            where = f"{file}, document {number}"
            if document is None:
                continue
            if not isinstance(document, dict):
                raise errors.ManifestInvalid(f"{where}: a manifest is a mapping")
            yield where, document


def _key(document: Mapping[str, Any], where: str) -> ObjectKey:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(name, str):
        raise errors.ManifestInvalid(f"{where}: metadata.name: is required")
    return str(metadata.get("namespace") or "default"), name


def _values(document: Mapping[str, Any], where: str, *, encoded: str, plain: str) -> dict[str, bytes]:
    values: dict[str, bytes] = {}
    for section in (encoded, plain):
        for key, value in (document.get(section) or {}).items():
            if not isinstance(value, str):
                raise errors.ManifestInvalid(f"{where}: {section}.{key}: must be a string")
            try:
                values[key] = base64.b64decode(value, validate=True) if section == encoded else value.encode()
            except binascii.Error:
                raise errors.ManifestInvalid(f"{where}: {section}.{key}: is no base64") from None
    return values


def _named(tenants: Iterable[ScimTenant]) -> tuple[set[ObjectKey], set[ObjectKey]]:
    secrets: set[ObjectKey] = set()
    config_maps: set[ObjectKey] = set()
    for tenant in tenants:
        namespace, spec = tenant.metadata.namespace, tenant.spec
        if spec.sso.saml is not None and spec.sso.saml.metadata_secret_ref is not None:
            secrets.add((namespace, spec.sso.saml.metadata_secret_ref.name))
        if spec.sso.saml is not None and spec.sso.saml.metadata_config_map_ref is not None:
            config_maps.add((namespace, spec.sso.saml.metadata_config_map_ref.name))
        if spec.provisioning.schemas_config_map_ref is not None:
            config_maps.add((namespace, spec.provisioning.schemas_config_map_ref.name))
    return secrets, config_maps
