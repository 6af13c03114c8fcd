"""The CRD: told well, bounded, and the same in the chart as in its file; its manifests know its fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

MANIFESTS = Path(__file__).parent / "manifests"
GOOD = sorted((MANIFESTS / "good").glob("*.yaml"))
BAD = sorted((MANIFESTS / "bad").glob("*.yaml"))


def nodes(schema, path=""):
    """Yield each schema in the CRD with its path."""
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from nodes(below, f"{path}.{name}")
    if "items" in schema:
        yield from nodes(schema["items"], f"{path}[]")


@pytest.fixture(scope="session")
def version(crd):
    (only,) = crd["spec"]["versions"]
    return only


@pytest.fixture(scope="session")
def root(version):
    return version["schema"]["openAPIV3Schema"]


def test_the_resource_is_named_and_shown_as_documented(crd, version):
    """Group, version, short name, status subresource and printer columns."""
    assert crd["metadata"]["name"] == "scimtenants.usher.dev"
    assert (crd["spec"]["group"], crd["spec"]["scope"]) == ("usher.dev", "Namespaced")
    assert crd["spec"]["names"]["shortNames"] == ["scimt"]
    assert (version["name"], version["served"], version["storage"]) == ("v1alpha1", True, True)
    assert version["subresources"] == {"status": {}}
    columns = {it["name"]: (it["type"], it.get("priority", 0)) for it in version["additionalPrinterColumns"]}
    assert columns == {
        "Ready": ("string", 0),
        "Endpoint": ("string", 0),
        "Users": ("integer", 0),
        "Pending": ("integer", 0),
        "Token-Expires": ("string", 0),  # a date in the future would print <invalid>
        "Age": ("date", 0),
        "Suspended": ("string", 1),
        "Reason": ("string", 1),
    }


def test_columns_show_fields_that_exist(version, root):
    """Each printer column's path leads to a field of the schema."""
    known = {path.replace("[]", "") for path, _ in nodes(root)} | {".metadata.creationTimestamp"}
    for column in version["additionalPrinterColumns"]:
        assert re.sub(r"\[[^]]*\]", "", column["jsonPath"]) in known


def test_every_field_is_described_and_bounded(root):
    """Each field tells what it is, each string and list how long it may be: CEL's cost hangs on it."""
    for path, schema in nodes(root):
        if path == ".metadata":
            continue  # described by the API server
        assert schema["description"].strip().endswith("."), path
        match schema["type"]:
            case "string":
                assert schema.keys() & {"maxLength", "enum"} or schema.get("format") == "date-time", path
            case "array":
                assert "maxItems" in schema, path
                assert "x-kubernetes-list-type" in schema, path
            case "object":
                assert schema["properties"], path
                assert "x-kubernetes-preserve-unknown-fields" not in schema, path
            case "integer":
                assert "minimum" in schema, path


def test_every_default_is_told(root):
    """A field's description names its default; an object's default is {} so that those below apply."""
    for path, schema in nodes(root):
        match schema.get("default"):
            case None:
                continue
            case dict() as empty:
                assert empty == {}, path
                assert schema["type"] == "object", path
            case bool() as flag:
                assert f"Default {str(flag).lower()}" in schema["description"], path
            case list() as everything:
                assert everything == schema["items"]["enum"], path
                assert "Default is all" in schema["description"], path
            case value:
                told = rf"Default (is |and only value is )?{value}\b|{value} (without a body )?\(default\)"
                assert re.search(told, schema["description"]), path


def test_optional_parts_take_their_defaults(root):
    """Every field that a rule of another reads has a default, or the rule asks for it with has()."""
    spec = root["properties"]["spec"]["properties"]
    for name in ("endpoint", "sso", "provisioning", "limits"):
        assert spec[name]["default"] == {}
    token = spec["tokens"]["items"]["properties"]
    assert {name for name, it in token.items() if "default" in it} == {
        "ttl",
        "renewBefore",
        "overlap",
        "role",
    }


def test_rules_on_durations_are_guarded(root):
    """A duration of the wrong form is told by its pattern alone: each rule looks at the form first."""
    patterns = {
        it["pattern"]
        for path, it in nodes(root)
        if path.endswith((".ttl", "Before", ".overlap", "Retention"))
    }
    (pattern,) = patterns
    for path, schema in nodes(root):
        for rule in schema.get("x-kubernetes-validations", []):
            for measured in set(re.findall(r"duration\((self[.\w]*)\)", rule["rule"])):
                assert f"!{measured}.matches('{pattern}') ||" in rule["rule"], path


@pytest.mark.parametrize(
    ("duration", "accepted"),
    [
        pytest.param("2160h", True, id="hours"),
        pytest.param("1h30m", True, id="hours and minutes"),
        pytest.param("0s", True, id="nothing"),
        pytest.param("90d", False, id="days"),
        pytest.param("1.5h", False, id="a fraction"),
        pytest.param("-1h", False, id="backwards"),
        pytest.param("60", False, id="no unit"),
        pytest.param("999999h", False, id="beyond what CEL can hold"),
        pytest.param("", False, id="empty"),
    ],
)
def test_durations(root, duration, accepted):
    """Hours, minutes and seconds, as Go and CEL read them."""
    pattern = next(it["pattern"] for path, it in nodes(root) if path.endswith(".ttl"))
    assert bool(re.search(pattern, duration)) == accepted


def test_the_path_is_fixed(root):
    """The endpoint's path has one value in this version and can't be changed."""
    path = root["properties"]["spec"]["properties"]["endpoint"]["properties"]["path"]
    assert path["default"] == "/iam/scim/v2"
    rules = [it["rule"] for it in path["x-kubernetes-validations"]]
    assert rules == ["self == oldSelf", "self == '/iam/scim/v2'"]
    # The API server looks at no rule of an object that the schema alone refuses.
    assert "enum" not in path


def test_the_chart_renders_the_file(chart, crd):
    """Rendered, the CRD differs from its file in labels and the annotation that keeps it alone."""
    rendered = chart.template().one("CustomResourceDefinition")
    assert rendered["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    assert rendered["metadata"].pop("labels")["app.kubernetes.io/name"] == "usher"
    assert rendered == crd


def test_the_crd_can_be_left_out_or_given_up(chart):
    """`crds.enabled` leaves it out, `crds.keep` lets an uninstall take it away."""
    assert not chart.template("crds.enabled=false").of_kind("CustomResourceDefinition")
    given_up = chart.template("crds.keep=false").one("CustomResourceDefinition")
    assert "annotations" not in given_up["metadata"]


def unknown(schema, value, path=""):
    """Yield the paths in a manifest that the schema does not know."""
    if isinstance(value, dict) and "properties" in schema:
        for name, below in value.items():
            if name in schema["properties"]:
                yield from unknown(schema["properties"][name], below, f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(value, list):
        for below in value:
            yield from unknown(schema["items"], below, f"{path}[]")


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_manifests_know_the_fields(root, path):
    """A good manifest has every required field and none that the CRD lacks."""
    (manifest,) = yaml.safe_load_all(path.read_text())
    assert list(unknown(root, manifest)) == []
    assert root["properties"]["spec"]["required"] == ["tokens"]
    assert manifest["spec"]["tokens"]


def test_the_complete_manifest_is_complete(root):
    """`complete.yaml` shows every field of the spec but the source of metadata that excludes the other."""
    manifest = yaml.safe_load((MANIFESTS / "good" / "complete.yaml").read_text())

    def shown(value, path):
        yield path
        if isinstance(value, dict):
            for name, below in value.items():
                yield from shown(below, f"{path}.{name}")
        elif isinstance(value, list):
            for below in value:
                yield from shown(below, f"{path}[]")

    fields = {path for path, _ in nodes(root["properties"]["spec"], ".spec")}
    missing = fields - set(shown(manifest["spec"], ".spec"))
    assert {path for path in missing if "metadataConfigMapRef" not in path} == set()


def test_every_rule_has_a_manifest_that_breaks_it(root):
    """Each rule's message, word for word, is what some bad manifest is refused with."""
    messages = {
        it["message"] for _, schema in nodes(root) for it in schema.get("x-kubernetes-validations", [])
    }
    assert len(messages) == 11
    expected = {path.read_text().splitlines()[0].removeprefix("# refused: ") for path in BAD}
    assert messages <= expected


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_manifests_say_what_is_wrong(path):
    """A bad manifest opens with the message and is a ScimTenant; two documents are an update."""
    text = path.read_text()
    assert re.match(r"# refused: \S", text)
    documents = list(yaml.safe_load_all(text))
    assert {it["kind"] for it in documents} == {"ScimTenant"}
    assert len(documents) == (2 if path.stem == "path-changed" else 1)


def test_the_charts_example_is_a_good_manifest(root, chart_values):
    """What Artifact Hub shows as an example has only fields of the CRD, and Chart.yaml lists the resource."""
    annotations = yaml.safe_load((chart_values.CHART / "Chart.yaml").read_text())["annotations"]
    (listed,) = yaml.safe_load(annotations["artifacthub.io/crds"])
    assert (listed["kind"], listed["version"]) == ("ScimTenant", "v1alpha1")
    (example,) = yaml.safe_load(annotations["artifacthub.io/crdsExamples"])
    assert list(unknown(root, example)) == []
