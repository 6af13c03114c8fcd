"""What a worker counts."""

from __future__ import annotations

import datetime

from prometheus_client import Counter, Gauge, Histogram

from usher_core import metrics as core_metrics
from usher_core.changes import events, policies, records, revocations
from usher_core.scim import schemas

APPLIED = Counter("usher_changes_applied", "Changes with a committed outcome.", ["operation", "status"])
BATCH = Histogram(
    "usher_batch_size", "Changes committed in one transaction.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
BATCH_SECONDS = Histogram(
    "usher_batch_seconds",
    "Time from taking a batch to its commit.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
AGE = Histogram(
    "usher_change_age_seconds",
    "Time from a change's acceptance to its commit.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60),
)
RETRIES = Counter("usher_store_retries", "Batches tried again because PostgreSQL was away or gave up.")
DEAD_LETTERS = Counter("usher_dead_letters", "Changes given up, by reason.", ["reason"])
DRAINS = Counter("usher_drains", "Drains by how they ended.", ["end"])
# Only the process of the sweep sets a gauge; the others of a worker hold a zero.
PENDING = Gauge(
    "usher_pending_changes",
    "Changes that wait, of all tenants; seen by the sweep.",
    multiprocess_mode="max",
)
OLDEST = Gauge(
    "usher_oldest_pending_seconds",
    "Age of the oldest waiting change; seen by the sweep.",
    multiprocess_mode="max",
)
SWEEPS = Counter("usher_sweeps", "Rounds of the sweep by result.", ["result"])
WOKEN = Counter("usher_sweep_wakes", "Tenants whose drain the sweep had to wake.")
FREED = Counter("usher_sweep_freed", "Transactions of stopped workers that the sweep ended.")
PUT_BACK = Counter("usher_promises_put_back", "Promised changes that the sweep put back into their streams.")
LEFT_OVER = Counter("usher_sweep_leftovers", "Jobs of dead workers that the sweep removed from RQ.")
PROCESSES = Gauge(
    "usher_worker_processes", "Processes of this worker that run and drain.", multiprocess_mode="max"
)
REPLACED = Counter("usher_worker_replacements", "Worker processes that were replaced, by why.", ["reason"])
DIRECT = Counter("usher_direct_drains", "Drains of the sweep's own, because Valkey had no memory left.")
FENCED = Counter(
    "usher_dead_revocations", "Revocations that became dead letters: what they take away stays taken away."
)


def count_applied(change: records.Change, outcome: records.Outcome, committed: datetime.datetime) -> None:
    """Count a change whose outcome is committed."""
    age = (committed - change.accepted_at).total_seconds()
    APPLIED.labels(change.operation, outcome.status).inc()
    AGE.observe(age)
    if change.promised and outcome.status == events.DEAD:
        FENCED.inc()
    if not change.promised and outcome.succeeded and _took_away(change, outcome):
        core_metrics.TIME_TO_REVOKE.observe(age)


def _took_away(change: records.Change, outcome: records.Outcome) -> bool:
    """Tell whether a change took access away in its turn, as it was meant to."""
    if change.resource_type == policies.USERS and (outcome.document or {}).get("active") is True:
        return False
    # Users and groups are what they are whatever else a tenant's own schemas say.
    return revocations.takes_away(schemas.default(), change)
