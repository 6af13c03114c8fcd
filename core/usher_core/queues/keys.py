"""The names of all keys in Valkey, and their lifetimes in milliseconds.

A tenant's keys carry the tenant as their hash tag: they stay together if keys are ever spread.
"""

from __future__ import annotations

from usher_core import ids

PENDING = "usher:pending"
"""The set of tenants whose stream may hold changes; the sweep looks nowhere else."""

BELL = "usher:bell"
"""A stream of at most a few entries; a drain that lingers reads it to learn that others wait."""

QUEUE = "usher"
"""The name of the RQ queue."""

JOBS = f"rq:queue:{QUEUE}"
"""RQ's own list of the jobs that wait."""

WAKE_QUEUED = 60_000
"""How long a wake that only waits in RQ's queue keeps others from enqueueing a second job."""

WAKE_LOST = 10_000
"""How long a wake may wait although RQ's queue is empty: then its job is lost.

A worker that was paused while it waited for a job takes one with it."""

WAKE_RUNNING = 5_000
"""How long a drain may be silent before the sweep takes it for dead."""

REPLIES_LIFE = 60_000
"""How long the outcomes for an api process that died are kept."""


def changes(tenant: ids.TenantId | str) -> str:
    """Name the tenant's stream of changes."""
    return f"usher:{{{tenant}}}:changes"


def wake(tenant: ids.TenantId | str) -> str:
    """Name the key that says a drain is on its way or at work."""
    return f"usher:{{{tenant}}}:wake"


def attempts(tenant: ids.TenantId | str) -> str:
    """Name the hash that counts the attempts at the head of the stream."""
    return f"usher:{{{tenant}}}:attempts"


def replies(process: str) -> str:
    """Name the list on which an api process waits for outcomes."""
    return f"usher:replies:{process}"
