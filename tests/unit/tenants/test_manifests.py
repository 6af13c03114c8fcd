from __future__ import annotations

import copy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from usher_core import errors
from usher_core.tenants import checks, configs, manifests

ROOT = Path(__file__).parents[3]
# The API server judges the same files.
CRD_CASES = ROOT / "tests" / "chart" / "manifests"

MINIMAL: dict[str, Any] = {
    "apiVersion": "usher.dev/v1alpha1",
    "kind": "ScimTenant",
    "metadata": {"name": "acme", "namespace": "identity"},
    "spec": {
        "tokens": [{"name": "okta", "secretRef": {"name": "acme-scim-okta"}}],
        "sso": {"saml": {"metadataSecretRef": {"name": "acme-saml"}}},
    },
}


def changed(path: str, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(MINIMAL)
    place: Any = document
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key)] if key.isdigit() else place.setdefault(key, {})
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return document


def test_a_minimal_manifest_has_the_documented_defaults() -> None:
    spec = manifests.parse(MINIMAL).spec
    token = spec.tokens[0]
    assert (token.ttl, token.renew_before, token.overlap) == (
        timedelta(hours=2160), timedelta(hours=720), timedelta(hours=24),
    )  # fmt: skip
    assert (token.role, token.secret_ref.key) == ("administrator", "token")
    assert (spec.endpoint.host, spec.endpoint.path) == (None, "/iam/scim/v2")
    assert (spec.sso.mode, spec.deletion_policy, spec.suspend) == ("Required", "Retain", False)
    assert spec.provisioning.user_name_format == "Email"
    assert (spec.limits.requests_per_second, spec.limits.reads_per_second) == (None, None)


@pytest.mark.parametrize("file", sorted((CRD_CASES / "good").glob("*.yaml")), ids=lambda file: file.stem)
def test_what_the_crd_accepts_is_accepted(file: Path) -> None:
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        manifests.parse(document)


@pytest.mark.parametrize("file", sorted((CRD_CASES / "bad").glob("*.yaml")), ids=lambda file: file.stem)
def test_what_the_crd_refuses_is_refused(file: Path) -> None:
    *_, last = yaml.safe_load_all(file.read_text(encoding="utf-8"))
    with pytest.raises(errors.ManifestInvalid):
        manifests.parse(last)


OTHER_TOKEN = {"name": "entra", "secretRef": {"name": "acme-scim-entra"}}


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        pytest.param("spec.colour", "red", "spec.colour: unknown field", id="unknown-field"),
        pytest.param("spec.tokens.0.Name", "x", "spec.tokens[0].Name: unknown field", id="wrong-case"),
        pytest.param("colour", "red", "colour: unknown field", id="unknown-at-the-top"),
        pytest.param("kind", "Tenant", "kind: ", id="kind"),
        pytest.param("apiVersion", "usher.dev/v1", "apiVersion: ", id="version"),
        pytest.param("metadata.name", ..., "metadata.name: is required", id="no-name"),
        pytest.param("metadata.name", "Acme", "metadata.name: ", id="name-in-upper-case"),
        pytest.param("metadata.name", "a" * 64, "metadata.name: ", id="name-too-long"),
        pytest.param("spec", ..., "spec: is required", id="no-spec"),
        pytest.param("spec.tokens", ..., "spec.tokens: is required", id="no-tokens"),
        pytest.param("spec.tokens", [], "spec.tokens: ", id="empty-tokens"),
        pytest.param("spec.tokens.0.name", "Okta", "spec.tokens[0].name: ", id="token-name"),
        pytest.param("spec.tokens.0.ttl", "90d", "spec.tokens[0].ttl: must be a duration", id="days"),
        pytest.param("spec.tokens.0.ttl", 2160, "spec.tokens[0].ttl: must be a duration", id="number"),
        pytest.param("spec.tokens.0.ttl", "8761h", "ttl must be between 1h and 8760h", id="ttl-too-long"),
        pytest.param("spec.tokens.0.ttl", "59m", "ttl must be between 1h and 8760h", id="ttl-too-short"),
        pytest.param("spec.tokens.0.renewBefore", "2160h", "renewBefore must be shorter", id="renewal"),
        pytest.param("spec.tokens.0.overlap", "721h", "overlap must not be longer", id="overlap"),
        pytest.param("spec.tokens.0.role", "owner", "spec.tokens[0].role: ", id="role"),
        pytest.param("spec.tokens.0.secretRef", ..., "spec.tokens[0].secretRef: is required", id="no-ref"),
        pytest.param("spec.tokens", [OTHER_TOKEN] * 2, "names of their own", id="one-name-twice"),
        pytest.param(
            "spec.tokens", [OTHER_TOKEN, {**OTHER_TOKEN, "name": "b"}], "secretRef of its own", id="secret"
        ),
        pytest.param("spec.sso", ..., "sso.saml must be set while sso.mode is Required", id="no-sso"),
        pytest.param("spec.sso.saml", {}, "spec.sso.saml: set exactly one of", id="no-source"),
        pytest.param(
            "spec.sso.saml.metadataConfigMapRef", {"name": "x"}, "saml: set exactly one", id="two-sources"
        ),
        pytest.param("spec.endpoint", {"path": "/scim"}, "spec.endpoint.path: ", id="path"),
        pytest.param("spec.endpoint", {"host": "a.example.com:1"}, "spec.endpoint.host: ", id="port"),
        pytest.param("spec.endpoint", {"host": "A.example.com"}, "spec.endpoint.host: ", id="host-case"),
        pytest.param("spec.provisioning.actions", ["Fly"], "spec.provisioning.actions[0]: ", id="action"),
        pytest.param("spec.provisioning.actions", ["PushGroups"], "PushGroups needs Create", id="groups"),
        pytest.param("spec.provisioning.actions", ["CreateUsers"] * 2, "one action twice", id="action-twice"),
        pytest.param("spec.suspend", "yes", "spec.suspend: ", id="text-for-boolean"),
        pytest.param("spec.limits.requestsPerSecond", 0, "spec.limits.requestsPerSecond: ", id="limit"),
        pytest.param("spec.limits.requestsPerSecond", "9", "requestsPerSecond: ", id="limit-text"),
        pytest.param("spec.deletionPolicy", "Orphan", "spec.deletionPolicy: ", id="policy"),
    ],
)  # fmt: skip
def test_each_rule_is_told_with_the_field(path: str, value: Any, told: str) -> None:
    with pytest.raises(errors.ManifestInvalid) as refused:
        manifests.parse(changed(path, value), where="file.yaml, document 1")
    assert str(refused.value).startswith("file.yaml, document 1: ")
    assert told in str(refused.value)


def test_an_item_that_is_wrong_is_the_only_thing_told() -> None:
    with pytest.raises(errors.ManifestInvalid) as refused:
        manifests.parse(changed("spec.tokens.0.ttl", "90d"))
    assert ";" not in str(refused.value)


def test_what_kubernetes_adds_is_ignored() -> None:
    document = changed("metadata.uid", "1")
    document["metadata"] |= {"managedFields": [], "generation": 3, "annotations": {"a": "b"}}
    document["status"] = {"whatever": 1}
    assert manifests.parse(document) == manifests.parse(MINIMAL)


def test_a_suspended_tenant_may_come_before_its_metadata() -> None:
    assert manifests.parse({**MINIMAL, "spec": {**MINIMAL["spec"], "sso": {}, "suspend": True}}).spec.suspend


def test_the_id_follows_from_namespace_and_name_alone() -> None:
    first = manifests.parse(MINIMAL).tenant
    assert first == manifests.parse(changed("spec.displayName", "Other")).tenant
    assert first == manifests.tenant_id("identity", "acme")
    # Data of a retained tenant hang on this very value: it must never change.
    assert str(first) == "1f48803d-8b14-56d0-a26d-4ecb0994ab48"
    assert first != manifests.parse(changed("metadata.namespace", "other")).tenant


def test_a_missing_namespace_is_default() -> None:
    assert manifests.parse(changed("metadata.namespace", ...)).metadata.namespace == "default"


# A config as it is stored.
def test_a_config_reads_back_as_it_was_written() -> None:
    file = CRD_CASES / "good" / "opposite.yaml"
    spec = manifests.parse(yaml.safe_load(file.read_text(encoding="utf-8"))).spec
    config = configs.of_spec(spec, host_taken=True)
    assert configs.from_document(configs.to_document(config)) == config
    assert config != configs.TenantConfig()


def test_a_config_of_another_version_has_defaults_for_what_it_lacks() -> None:
    assert configs.from_document({"something": "new"}) == configs.TenantConfig()
    assert configs.TenantConfig() == configs.of_spec(manifests.parse(MINIMAL).spec)


# Files and folders.
TENANT = yaml.safe_dump(MINIMAL)
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: acme-saml, namespace: identity}
data: {metadata.xml: PGEvPg==}
stringData: {other: plain}
"""


def test_a_file_brings_tenants_and_what_they_name(tmp_path: Path) -> None:
    stranger = SECRET.replace("acme-saml", "stranger")
    deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}"
    file = tmp_path / "all.yaml"
    file.write_text("\n---\n".join([TENANT, SECRET, stranger, deployment, ""]))
    bundle = manifests.load(file)
    assert [tenant.metadata.name for tenant in bundle.tenants] == ["acme"]
    assert bundle.secrets == {("identity", "acme-saml"): {"metadata.xml": b"<a/>", "other": b"plain"}}
    assert "plain" not in repr(bundle)


async def test_a_folder_brings_every_yaml_file(tmp_path: Path) -> None:
    config_map = "{kind: ConfigMap, metadata: {name: acme-saml}, data: {a: b}, binaryData: {c: ZA==}}"
    own = changed("spec.sso", {"saml": {"metadataConfigMapRef": {"name": "acme-saml"}}})
    del own["metadata"]["namespace"]
    (tmp_path / "b.yml").write_text(yaml.safe_dump(own))
    (tmp_path / "a.yaml").write_text(config_map)
    (tmp_path / "notes.txt").write_text("no: [yaml")
    bundle = manifests.load(tmp_path)
    assert len(bundle.tenants) == 1
    assert await bundle.get_config_map("default", "acme-saml") == {"a": b"b", "c": b"d"}
    assert await bundle.get_secret("default", "acme-saml") is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param("a: [b", "all.yaml: no valid YAML (line", id="no-yaml"),
        pytest.param("- a", "all.yaml, document 1: a manifest is a mapping", id="a-list"),
        pytest.param(f"{TENANT}\n---\n{TENANT}", "document 2: a second ScimTenant identity/acme", id="twice"),
        pytest.param(TENANT.replace("okta", "Okta", 1), "document 1: spec.tokens[0].name: ", id="field"),
        pytest.param(
            SECRET.replace("PGEvPg==", "S3CR3T!"), "data.metadata.xml: is no base64", id="no-base64"
        ),
        pytest.param(SECRET.replace("plain", "7"), "stringData.other: must be a string", id="a-number"),
        pytest.param("{kind: Secret, metadata: {}}", "metadata.name: is required", id="no-name"),
        pytest.param("kind: Secret\ndata: {a: 'S3CR3T\n", "no valid YAML", id="secret-in-broken-yaml"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_place(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "all.yaml"
    file.write_text(content)
    with pytest.raises(errors.ManifestInvalid) as refused:
        manifests.load(file)
    assert message in str(refused.value)
    assert "S3CR3T" not in str(refused.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(errors.ManifestInvalid, match=r"nowhere\.yaml: can't be read"):
        manifests.load(tmp_path / "nowhere.yaml")


async def test_the_example_is_valid_with_its_metadata() -> None:
    bundle = manifests.load(ROOT / "examples" / "acme.yaml")
    (tenant,) = bundle.tenants
    found = await checks.sso(tenant, bundle, datetime(2026, 11, 24, 12, tzinfo=UTC))
    assert found.condition.reason == "MetadataValid"
