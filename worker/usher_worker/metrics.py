"""What a worker counts."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

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
PENDING = Gauge("usher_pending_changes", "Changes that wait, of all tenants; seen by the sweep.")
OLDEST = Gauge("usher_oldest_pending_seconds", "Age of the oldest waiting change; seen by the sweep.")
SWEEPS = Counter("usher_sweeps", "Rounds of the sweep by result.", ["result"])
WOKEN = Counter("usher_sweep_wakes", "Tenants whose drain the sweep had to wake.")
FREED = Counter("usher_sweep_freed", "Transactions of stopped workers that the sweep ended.")
