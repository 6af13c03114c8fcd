"""The names of all keys in Valkey, and their lifetimes in milliseconds.

A tenant's keys carry the tenant as their hash tag: they stay together if keys are ever spread.
"""

from __future__ import annotations

from usher_core import ids

PENDING = "usher:pending"
"""The set of tenants whose stream may hold changes; the sweep looks nowhere else."""

GENERATION = "usher:generation"
"""The run id of the server that the streams belong to; `generations` tells what it is for."""

BELL = "usher:bell"
"""A stream of at most a few entries; a drain that lingers reads it to learn that others wait."""

QUEUE = "usher"
"""The name of the RQ queue."""

JOBS = f"rq:queue:{QUEUE}"
"""RQ's own list of the jobs that wait."""

WAKE_QUEUED = 60_000
"""How long a wake that only waits in RQ's queue keeps others from enqueueing a second job.

The sweep renews it while the job stands there."""

WAKE_LOST = 10_000
"""How long a wake may wait although RQ's queue does not hold its job: then the job is lost.

A worker that was paused while it waited for a job takes one with it."""

WAKE_RUNNING = 5_000
"""How long a drain may be silent before the sweep takes it for dead."""

REQUEST_LIFE = 90_000
"""How long a request is remembered for its retries: its own wait, and a minute for whoever waits for it."""

REQUEST_LATE_LIFE = 3_600_000
"""How long a request is remembered that was answered 503, or whose client hung up."""

ALIVE_LIFE = 6_000
"""How long an api process may be silent before its waiting requests count as gone."""

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


def inbox(tenant: ids.TenantId | str) -> str:
    """Name the hash that says where in the stream each promised change stands."""
    return f"usher:{{{tenant}}}:inbox"


def bucket(tenant: ids.TenantId | str, kind: str) -> str:
    """Name the token bucket that limits a tenant's `writes` or `reads`."""
    return f"usher:{{{tenant}}}:{kind}"


def fingerprint(tenant: ids.TenantId | str, digest: str) -> str:
    """Name the key that says which change a request became, for its retries."""
    return f"usher:{{{tenant}}}:request:{digest}"


def alive(replies_key: str) -> str:
    """Name the key that says the api process behind a reply list lives."""
    return f"{replies_key}:alive"


def replies(process: str) -> str:
    """Name the list on which an api process waits for outcomes."""
    return f"usher:replies:{process}"
