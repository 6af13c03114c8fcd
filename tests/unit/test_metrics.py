"""Every metric is explained to whoever runs Usher."""

from __future__ import annotations

import types
from pathlib import Path

import prometheus_client
import pytest

import usher_api.metrics
import usher_core.metrics
import usher_worker.metrics

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(usher_api.metrics, id="api"),
        pytest.param(usher_core.metrics, id="both"),
        pytest.param(usher_worker.metrics, id="worker"),
    ],
)
def test_every_metric_is_explained(module: types.ModuleType) -> None:
    kinds = (prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram)
    made = [one for one in vars(module).values() if isinstance(one, kinds)]
    assert made
    documented = OPERATIONS.read_text()
    for one in made:
        name = one._name + ("_total" if isinstance(one, prometheus_client.Counter) else "")
        assert f"`{name}`" in documented
