"""What both ends of the queue measure: a revocation takes effect at the api, or in its turn at a worker.

And how either shows what it measures, in one process or in several (`metric_folders`).
"""

from __future__ import annotations

import os

import prometheus_client
from prometheus_client import Histogram, multiprocess

from usher_core import metric_folders

TIME_TO_REVOKE = Histogram(
    "usher_time_to_revoke_seconds",
    "Time from the acceptance of a revocation to its effect.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60),
)


def expose() -> bytes:
    """Write all metrics in the text format, of every process that shares the folder with this one."""
    registry = prometheus_client.REGISTRY
    if os.environ.get(metric_folders.VARIABLE):
        registry = prometheus_client.CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return prometheus_client.generate_latest(registry)
