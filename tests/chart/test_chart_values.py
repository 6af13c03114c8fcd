"""Which values the chart takes, and what it says to the others."""

from __future__ import annotations

import json

import pytest
import yaml


@pytest.fixture(scope="session")
def schema(chart_values):
    return json.loads((chart_values.CHART / "values.schema.json").read_text())


@pytest.fixture(scope="session")
def values_text(chart_values):
    return (chart_values.CHART / "values.yaml").read_text()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        pytest.param("replicas=2", ["replicas", "not allowed"], id="unknown at the top"),
        pytest.param("api.replica=2", ["/api", "replica", "not allowed"], id="unknown in a component"),
        pytest.param('database.password="x"', ["/database", "password", "not allowed"], id="a password"),
        pytest.param('api.replicas="two"', ["/api/replicas", "want integer"], id="a word for a number"),
        pytest.param("worker.replicas=-1", ["/worker/replicas", "want 0"], id="fewer than none"),
        pytest.param("worker.processes=0", ["/worker/processes", "want 1"], id="no process"),
        pytest.param('crds.keep="yes"', ["/crds/keep", "want boolean"], id="a word for a boolean"),
        pytest.param(
            'logLevel="verbose"', ["/logLevel", "'debug', 'info', 'warning', 'error'"], id="no level"
        ),
        pytest.param("applyWait=60", ["/applyWait", "want 55"], id="a wait beyond any client's"),
        pytest.param('publicUrl="scim.example.com"', ["/publicUrl"], id="a URL without scheme"),
        pytest.param('publicUrl="https://scim.example.com/iam"', ["/publicUrl"], id="a URL with a path"),
        pytest.param('publicUrl="https://u:p@scim.example.com"', ["/publicUrl"], id="a URL with a password"),
        pytest.param('image.digest="0.1.0"', ["/image/digest"], id="a tag for a digest"),
        pytest.param('image.pullPolicy="Sometimes"', ["/image/pullPolicy"], id="no pull policy"),
        pytest.param('api.resources={"limit":{}}', ["/api/resources", "limit"], id="misspelt resources"),
        pytest.param('api.affinity={"nodeAffinity":{"x":1}}', ["/api/affinity/nodeAffinity"], id="affinity"),
        pytest.param('extraEnv=[{"name":"A","valeu":"1"}]', ["/extraEnv/0", "valeu"], id="misspelt variable"),
        pytest.param('extraEnv=[{"name":"A","value":1}]', ["/extraEnv/0/value"], id="a number for a string"),
        pytest.param('operator.watchNamespaces="a"', ["/operator/watchNamespaces"], id="a word for a list"),
        pytest.param('networkPolicy.apiFrom=[{"pods":{}}]', ["/networkPolicy/apiFrom/0"], id="no peer"),
        pytest.param('api.trustedProxies="10.0.0.0/8"', ["/api/trustedProxies"], id="a word for proxies"),
        pytest.param('api.trustedProxies=["*"]', ["/api/trustedProxies/0"], id="every proxy"),
        pytest.param('api.trustedProxies=["10.0.0.0/8,::1"]', ["/api/trustedProxies/0"], id="two in one"),
        pytest.param("podSecurityContext.runAsUser=0", ["/podSecurityContext/runAsUser"], id="root"),
    ],
)
def test_a_wrong_value_is_refused_by_name(chart, value, named):
    """The schema refuses what it does not know, and the message says where."""
    message = chart.refusal(value)
    assert all(word in message for word in named), message


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param('image.repository=""', "image.repository is required", id="image"),
        pytest.param('publicUrl=""', "publicUrl is required", id="public URL"),
        pytest.param('database.existingSecret=""', "database.existingSecret is required", id="database"),
        pytest.param('redis.existingSecret=""', "redis.existingSecret is required", id="queue"),
        pytest.param(
            "api.terminationGracePeriodSeconds=30",
            "api.terminationGracePeriodSeconds (30) must be more than applyWait (25)",
            id="api killed while it waits",
        ),
        pytest.param(
            "worker.terminationGracePeriodSeconds=30",
            "worker.terminationGracePeriodSeconds (30) must be more than worker.drainLifetime (30)",
            id="worker killed in a drain",
        ),
        pytest.param(
            'extraEnv=[{"name":"USHER_LOG_LEVEL","value":"debug"}]',
            "extraEnv: USHER_LOG_LEVEL is set by the chart",
            id="a variable that a value sets",
        ),
    ],
)
def test_values_that_do_not_go_together_are_refused(chart, value, message):
    """What a schema can't say is said by the templates, in a sentence."""
    assert message in chart.refusal(value)


def test_a_parent_chart_may_pass_its_globals(chart):
    """A chart that is a dependency is given `global` by helm, whatever it holds."""
    assert chart.template('global={"imageRegistry":"registry.example.com"}')


def paths(values, above=""):
    """List the dotted paths of all values that hold no further ones."""
    if not isinstance(values, dict) or not values:
        return [above]
    return [path for name, value in values.items() for path in paths(value, f"{above}.{name}".lstrip("."))]


def test_every_value_is_documented(values_text, chart_values):
    """Each value has a comment, or is part of one that has."""
    documented = chart_values.documented(values_text)
    for path in paths(yaml.safe_load(values_text)):
        parts = path.split(".")
        assert any(".".join(parts[:end]) in documented for end in range(1, len(parts) + 1)), path


def test_the_readme_tells_the_same_values(values_text, chart_values):
    """The README's table is the one that `python tests/tools/chart_values.py` writes."""
    readme = (chart_values.CHART / "README.md").read_text()
    assert readme == chart_values.with_table(readme, values_text)


def test_schema_and_values_know_the_same_names(schema, values_text):
    """Each property of the schema has a default in values.yaml, and the other way round."""

    def compare(node, values, path):
        if "properties" not in node:
            return
        names = node["properties"].keys() - ({"global"} if not path else set())
        assert names == values.keys(), path
        for name in names:
            below = node["properties"][name]
            if "$ref" in below:
                below = schema["definitions"][below["$ref"].rsplit("/", 1)[1]]
            if values[name] and isinstance(values[name], dict) and name != "resources":
                compare(below, values[name], f"{path}.{name}")

    compare(schema, yaml.safe_load(values_text), "")


def test_every_object_of_the_schema_is_closed(schema):
    """Unknown keys are refused everywhere but in `global`; free maps say of what."""

    def walk(node, path):
        if isinstance(node, dict):
            if node.get("type") == "object":
                allowed = node["additionalProperties"]
                assert allowed is False or isinstance(allowed, dict) or path == "/properties/global", path
            for name, below in node.items():
                walk(below, f"{path}/{name}")
        elif isinstance(node, list):
            for index, below in enumerate(node):
                walk(below, f"{path}/{index}")

    walk(schema, "")
