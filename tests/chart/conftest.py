"""The chart as the tests see it: rendered by a real helm, told apart by kind and component."""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "usher"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))

Document = dict[str, Any]


class StrictLoader(yaml.SafeLoader):
    """Refuses a mapping that names a key twice, which YAML forbids and PyYAML lets pass."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"a key is there twice: {keys}"
        return super().construct_mapping(node, deep)


class Rendered(list[Document]):
    """The documents of one `helm template`."""

    def of_kind(self, *kinds: str) -> list[Document]:
        return [document for document in self if document["kind"] in kinds]

    def one(self, kind: str, component: str | None = None) -> Document:
        """Return the only document of the kind, or the only one of the component's."""
        found = [
            document
            for document in self.of_kind(kind)
            if component in (None, document["metadata"]["labels"].get("app.kubernetes.io/component"))
        ]
        assert len(found) == 1, f"{len(found)} of {kind} {component}"
        return found[0]

    def pods(self) -> Iterator[tuple[str, Document]]:
        """Yield the component and the pod template of everything that makes pods."""
        for document in self.of_kind("Deployment", "Job"):
            component = document["metadata"]["labels"]["app.kubernetes.io/component"]
            yield component, document["spec"]["template"]


@dataclass(frozen=True)
class Chart:
    """The chart and the helm that renders it."""

    helm: Path

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run([self.helm, *arguments], capture_output=True, text=True, timeout=60)

    def template(
        self, *values: str, file: Path = CHART / "ci" / "default-values.yaml", name: str = "usher"
    ) -> Rendered:
        """Render the chart with a file of values and more of them, `path=value`; any word on stderr fails."""
        sets = [word for value in values for word in ("--set-json", value)]
        run = self.run("template", name, CHART, "--namespace", "scim-system", "-f", file, *sets)
        assert (run.returncode, run.stderr) == (0, "")
        documents = yaml.load_all(run.stdout, StrictLoader)
        return Rendered(document for document in documents if document is not None)

    def refusal(self, *values: str, file: Path = CHART / "ci" / "default-values.yaml") -> str:
        """Return what helm says when it refuses to render; rendering fails the test."""
        sets = [word for value in values for word in ("--set-json", value)]
        run = self.run("template", "usher", CHART, "-f", file, *sets)
        assert run.returncode != 0, "it was rendered"
        return run.stderr


def load_tool(name: str) -> ModuleType:
    """Import a module of tests/tools, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tests" / "tools" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def kubetools() -> ModuleType:
    return load_tool("kubetools")


@pytest.fixture(scope="session")
def chart_values() -> ModuleType:
    return load_tool("chart_values")


@pytest.fixture(scope="session")
def crd_reference() -> ModuleType:
    return load_tool("crd_reference")


@pytest.fixture(scope="session")
def chart(kubetools: ModuleType) -> Chart:
    return Chart(kubetools.find("helm"))


@pytest.fixture(scope="session", params=VALUE_SETS, ids=lambda path: path.stem)
def value_set(request: pytest.FixtureRequest) -> Path:
    return request.param


@pytest.fixture(scope="session")
def rendered(chart: Chart, value_set: Path) -> Rendered:
    """Every set of values in the chart's ci/, rendered once."""
    return chart.template(file=value_set)


@pytest.fixture(scope="session")
def crd() -> Document:
    document = yaml.load((CHART / "files" / "scimtenants.yaml").read_text(), StrictLoader)
    assert isinstance(document, dict)
    return document
