"""The CRD and the model that `usher dev` and the operator read manifests by say the same, field by field."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pydantic
import pytest
import yaml

from usher_core import errors
from usher_core.tenants import durations, manifests

MANIFESTS = Path(__file__).parent / "manifests"
BAD = sorted((MANIFESTS / "bad").glob("*.yaml"))
NUMBERS = ("minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems")


def of_model(schema, definitions, path=""):
    """Yield each field of the model's JSON schema: its path, its schema, whether it must be there."""
    for name, field in schema.get("properties", {}).items():
        resolved, here = resolve(field, definitions), f"{path}.{name}"
        yield here, resolved, name in schema.get("required", [])
        below = resolve(resolved.get("items", resolved), definitions)
        yield from of_model(below, definitions, f"{here}[]" if "items" in resolved else here)


def resolve(field, definitions):
    """Follow a reference; what may be null is not there, in Kubernetes' words."""
    given = {key: value for key, value in field.items() if key not in ("$ref", "anyOf")}
    if "anyOf" in field:
        (one,) = [it for it in field["anyOf"] if it.get("type") != "null"]
        return resolve(one, definitions) | given
    if "$ref" in field:
        return resolve(definitions[field["$ref"].rpartition("/")[2]], definitions) | given
    return given


def of_crd(schema, path=""):
    """Yield each field of the CRD likewise."""
    for name, field in schema.get("properties", {}).items():
        here = f"{path}.{name}"
        yield here, field, name in schema.get("required", [])
        yield from of_crd(field.get("items", field), f"{here}[]" if "items" in field else here)


@pytest.fixture(scope="module")
def model():
    schema = manifests.ScimTenant.model_json_schema(by_alias=True)
    spec = resolve(schema["properties"]["spec"], schema["$defs"])
    return {path: (field, required) for path, field, required in of_model(spec, schema["$defs"])}


@pytest.fixture(scope="module")
def resource(crd):
    (version,) = crd["spec"]["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return {path: (field, required) for path, field, required in of_crd(spec)}


def test_both_know_the_same_fields(model, resource):
    """Neither has a field that the other lacks, and both ask for the same ones."""
    assert {path: required for path, (_, required) in model.items()} == {
        path: required for path, (_, required) in resource.items()
    }


def test_both_have_the_same_defaults(model, resource):
    """What a manifest leaves out is the same to both; an object's default is made of those below."""
    for path, (field, _) in resource.items():
        if field["type"] == "object":
            continue
        mine, default = model[path][0], field.get("default")
        if mine.get("format") == "duration":
            assert pydantic.TypeAdapter(timedelta).validate_python(mine["default"]) == durations.parse(
                default
            ), path
        else:
            assert mine.get("default") == default, path


def test_both_take_the_same_values(model, resource):
    """Types, choices, patterns and bounds are the same."""
    for path, (field, _) in resource.items():
        mine = model[path][0]
        assert mine["type"] == field["type"], path
        if mine.get("format") == "duration":
            assert field["pattern"] == f"^{durations.FORM.pattern}$", path
            continue
        if "const" in mine:  # the CRD says it by a rule, for the sake of its message
            assert field["default"] == mine["const"], path
            assert f"self == '{mine['const']}'" in [it["rule"] for it in field["x-kubernetes-validations"]]
            continue
        assert mine.get("enum") == field.get("enum"), path
        assert mine.get("pattern") == field.get("pattern"), path
        assert {key: mine.get(key) for key in NUMBERS} == {key: field.get(key) for key in NUMBERS}, path
        if "items" in field:
            assert mine["items"].get("enum") == field["items"].get("enum"), path


def test_both_refuse_in_the_same_words(crd):
    """What breaks a rule of the CRD is refused by the model with the rule's own message."""
    (version,) = crd["spec"]["versions"]
    messages = {rule["message"] for rule in rules(version["schema"]["openAPIV3Schema"])}
    # Of one manifest nobody can say that it changed, and the two others are bounds to the model.
    messages -= {message for message in messages if message.startswith(("endpoint.path", "metadata.name"))}
    told = set()
    for path in BAD:
        message = path.read_text().splitlines()[0].removeprefix("# refused: ")
        if message in messages:
            *_, document = yaml.safe_load_all(path.read_text())
            with pytest.raises(errors.ManifestInvalid) as refused:
                manifests.parse(document)
            assert message in str(refused.value)
            told.add(message)
    assert told == messages


def rules(schema):
    """Yield every rule."""
    yield from schema.get("x-kubernetes-validations", [])
    for below in schema.get("properties", {}).values():
        yield from rules(below)
    if "items" in schema:
        yield from rules(schema["items"])
