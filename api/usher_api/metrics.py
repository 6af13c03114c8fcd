"""What the api counts; `usher_core.metrics` shows it, of several processes too."""

from __future__ import annotations

import functools

from prometheus_client import Counter, Histogram

from usher_core.changes import records

BUCKETS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25)

REQUESTS = Counter("usher_requests", "Requests answered.", ["method", "endpoint", "status"])
SECONDS = Histogram("usher_request_seconds", "Time to the answer.", ["method"], buckets=BUCKETS)
ACCEPTED = Counter("usher_changes_accepted", "Changes put on a tenant's stream.", ["operation"])
WAIT = Histogram("usher_apply_wait_seconds", "Time a request waited for its outcome.", buckets=BUCKETS)
LATE = Counter("usher_apply_late", "Requests answered 503 because the outcome did not come in time.")


@functools.cache
def _accepted_series(operation: records.Operation) -> Counter:
    # Asking a metric for its series costs more than counting.
    return ACCEPTED.labels(operation)


def count_accepted(operation: records.Operation) -> None:
    """Count one change that was put on a stream."""
    _accepted_series(operation).inc()


@functools.lru_cache(maxsize=4096)
def _request_series(method: str, endpoint: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, endpoint, status), SECONDS.labels(method)


def count_request(method: str, endpoint: str, status: int, seconds: float) -> None:
    """Count one answered request; `endpoint` is the route's pattern, so the series stay few."""
    requests, histogram = _request_series(method, endpoint, status)
    requests.inc()
    histogram.observe(seconds)
