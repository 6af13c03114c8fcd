"""How the queue stands: what waits, how old it is, how fast it goes, what was given up, who works.

`usher queue` shows it. It changes nothing and reads no change, and costs two round trips to Valkey, and three
to PostgreSQL for each two hundred tenants.
"""

from __future__ import annotations

import dataclasses
import datetime
import uuid
from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, Literal

import redis.asyncio
from rq import worker_registration

from usher_core import ids
from usher_core.changes import records
from usher_core.queues import connections, keys
from usher_core.store import databases, dead_letters, histories

Drain = Literal["idle", "queued", "running", "lost"]

# The applied changes of this last while make the rate.
WINDOW: Final = datetime.timedelta(seconds=60)


@dataclasses.dataclass(frozen=True, slots=True)
class Backlog:
    """What Valkey says of one tenant; `oldest` is the oldest change's age in seconds."""

    pending: int = 0
    oldest: float | None = None
    drain: Drain = "idle"


@dataclasses.dataclass(frozen=True, slots=True)
class Standing:
    """One tenant's line; `name` is empty for a tenant that is gone and left changes behind."""

    tenant: ids.TenantId
    name: str
    backlog: Backlog
    rate: float = 0.0
    dead_letters: int = 0

    @property
    def is_quiet(self) -> bool:
        """Whether there is nothing to show."""
        return self.backlog == Backlog() and not self.rate and not self.dead_letters


@dataclasses.dataclass(frozen=True, slots=True)
class Queue:
    """Everything at one moment: the tenants, the one that waits longest first, and RQ's side."""

    at: datetime.datetime
    standings: tuple[Standing, ...]
    jobs: int
    workers: int
    busy: int


async def read(database: databases.Database, client: redis.asyncio.Redis) -> Queue:
    """Look at every tenant.

    Raises:
        StoreUnavailable, QueueUnavailable: a backend is away.
    """
    backlogs, jobs, states = await _read_queue(client)
    known = await histories.list_tenants(database)
    living = [one for one in known if one.deleted_at is None or one.tenant in backlogs]
    letters = await dead_letters.count(database, [one.tenant for one in living])
    now = records.now()
    since = {one.tenant: now - 2 * WINDOW - _waited(backlogs.get(one.tenant)) for one in living}
    applied = await histories.count_applied(database, since, now - WINDOW)
    standings = [
        Standing(
            one.tenant,
            one.label if one.deleted_at is None else f"{one.label} (deleted)",
            backlogs.get(one.tenant, Backlog()),
            applied[one.tenant] / WINDOW.total_seconds(),
            letters[one.tenant],
        )
        for one in living
    ]
    standings += [Standing(tenant, "", backlogs[tenant]) for tenant in _gone(backlogs, known)]
    standings.sort(key=lambda one: (-(one.backlog.oldest or 0.0), -one.dead_letters, -one.rate, one.name))
    busy = sum(state == b"busy" for state in states)
    return Queue(now, tuple(standings), jobs, len(states), busy)


async def _read_queue(client: redis.asyncio.Redis) -> tuple[dict[ids.TenantId, Backlog], int, list[bytes]]:
    with connections.wrapped():
        pipe = client.pipeline(transaction=False)
        pipe.smembers(keys.PENDING)
        pipe.smembers(worker_registration.WORKERS_BY_QUEUE_KEY % keys.QUEUE)
        members, workers = await pipe.execute()
        tenants = sorted(member.decode() for member in members)
        pipe = client.pipeline(transaction=False)
        pipe.time()
        pipe.llen(keys.JOBS)
        for worker in sorted(workers):
            pipe.hget(worker, "state")
        for tenant in tenants:
            pipe.xlen(keys.changes(tenant))
            pipe.xrange(keys.changes(tenant), count=1)
            pipe.get(keys.wake(tenant))
            pipe.pttl(keys.wake(tenant))
        (seconds, micros), jobs, *answers = await pipe.execute()
    now = seconds + micros / 1e6
    # A worker that was killed stays in the set for a while; its own key is gone.
    states = [state for state in answers[: len(workers)] if state is not None]
    rest = answers[len(workers) :]
    backlogs = {
        ids.TenantId(uuid.UUID(tenant)): _backlog(now, jobs, *rest[4 * number : 4 * number + 4])
        for number, tenant in enumerate(tenants)
    }
    return backlogs, jobs, states


def _backlog(now: float, jobs: int, pending: int, head: Any, wake: bytes | None, left: int) -> Backlog:
    oldest = max(now - int(head[0][0].split(b"-")[0]) / 1000, 0.0) if head else None
    if wake is None:
        return Backlog(pending, oldest, "lost" if pending else "idle")
    if wake != b"queued":
        return Backlog(pending, oldest, "running")
    lost = not jobs and left < keys.WAKE_QUEUED - keys.WAKE_LOST
    return Backlog(pending, oldest, "lost" if lost else "queued")


def _waited(backlog: Backlog | None) -> datetime.timedelta:
    # What was applied just now waited about as long as what is next.
    return datetime.timedelta(seconds=0.0 if backlog is None else backlog.oldest or 0.0)


def _gone(
    backlogs: Mapping[ids.TenantId, Backlog], known: Iterable[histories.Tenant]
) -> Collection[ids.TenantId]:
    return backlogs.keys() - {one.tenant for one in known}
