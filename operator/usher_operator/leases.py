"""Leader election: of several operators the one that holds a Lease works, the others stand by.

`processes` runs the operator's work within one. The library's elector waits for an answer as long as the
answer takes, leaves what it cancelled to itself and writes local times; here a request is over before the
lease is, and the work has ended before another operator may begin. A paused process may still err about the
time: then the store refuses its writes (`terms`). Invariant: who does not hold the lease does not work.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import structlog
from kubernetes.aio import client

from usher_core import errors
from usher_operator import clients, metrics

log = structlog.get_logger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Timing:
    """Seconds; a standby takes over within `duration` and two `retry`s of the holder's death."""

    duration: float = 12.0
    """So long after its last renewal the holder counts as gone."""
    deadline: float = 8.0
    """So long after its last renewal the holder stops to work."""
    retry: float = 2.5
    grace: float = 3.0
    """So long its work may take to end; it ends before `duration` is over."""

    @property
    def request(self) -> float:
        """How long one request may take."""
        return self.deadline / 3


class LeaseLost(errors.UsherError):
    """Another operator has the lease: leave the process, so that nothing of it works on."""


class Lease:
    """A lease that several operators want; `holder` is this one's name, unique to the process."""

    def __init__(
        self, api: client.ApiClient, namespace: str, name: str, holder: str, timing: Timing | None = None
    ) -> None:
        self._api = client.CoordinationV1Api(api)
        self._namespace = namespace
        self._name = name
        self._holder = holder
        self._timing = timing or Timing()
        self._seen: client.V1Lease | None = None
        self._seen_at = 0.0

    async def hold(self, work: Callable[[], Awaitable[None]]) -> None:
        """Wait for the lease, work for as long as it is held, and give it back at the end.

        While the API server is away for too long nobody works; the work begins anew with the lease.

        Raises:
            LeaseLost: another one has it, or the work did not end within `grace`.
        """
        while not await self._try(self._claim()):  # noqa: ASYNC110 - the API server has no event for us
            await asyncio.sleep(self._timing.retry)
        while not await self._work(work):
            await self._regain()

    async def _work(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Work while the lease is held; tells whether the work came to its own end."""
        renewed = time.monotonic()
        log.info("lease acquired", lease=self._name, holder=self._holder)
        metrics.LEADS.set(1)
        working = asyncio.ensure_future(work())
        is_held = True
        try:
            while is_held and not working.done():
                left = renewed + self._timing.deadline - time.monotonic()
                await asyncio.wait({working}, timeout=max(0.0, min(self._timing.retry, left)))
                if working.done():
                    break
                began = time.monotonic()
                if await self._try(self._renewal(), at_most=renewed + self._timing.deadline - began):
                    renewed = began
                elif self._is_anothers():
                    raise self._lost("another one has it")
                else:
                    is_held = time.monotonic() < renewed + self._timing.deadline
        finally:
            metrics.LEADS.set(0)
            working.cancel()
            await asyncio.wait({working}, timeout=self._timing.grace)
        if is_held:
            await self._try(self._renewal(holder=""))
            await working
            return True
        if not working.done():
            raise self._lost("the work does not end")
        if not working.cancelled():
            await working  # it ended meanwhile, perhaps by a fault of its own
        log.warning("lease not renewed in time: no work until it is", lease=self._name, holder=self._holder)
        return False

    async def _regain(self) -> None:
        while not await self._try(self._claim()):
            if self._is_anothers() and self._seen is not None:
                raise self._lost("another one has it")
            await asyncio.sleep(self._timing.retry)

    def _lost(self, why: str) -> LeaseLost:
        log.error("lease lost", lease=self._name, holder=self._holder, reason=why)
        return LeaseLost(f"the lease {self._namespace}/{self._name} is lost: {why}")

    async def _try(self, attempt: Awaitable[bool], *, at_most: float = math.inf) -> bool:
        try:
            async with asyncio.timeout(max(0.0, min(self._timing.request, at_most))):
                return await attempt
        except clients.KubernetesUnavailable as exc:
            if exc.status != 409:
                log.warning("lease not renewed", lease=self._name, reason=str(exc))
            return False
        except TimeoutError:
            metrics.REFUSED.labels("none").inc()
            log.warning("lease not renewed", lease=self._name, reason="no answer in time")
            return False

    async def _claim(self) -> bool:
        """Take a lease that nobody holds, or whose holder has not renewed it while we looked on."""
        lease = await self._read()
        if lease is None:
            await self._create()
            return True
        spec = lease.spec or client.V1LeaseSpec()
        # By our own clock from our own look on: two machines need not agree about the time.
        seen = self._seen.spec if self._seen is not None else None
        if seen is None or (seen.holder_identity, seen.renew_time) != (spec.holder_identity, spec.renew_time):
            self._seen, self._seen_at = lease, time.monotonic()
        silent = time.monotonic() - self._seen_at
        is_ours, life = spec.holder_identity == self._holder, spec.lease_duration_seconds
        if spec.holder_identity and not is_ours and silent < float(life or self._timing.duration):
            return False
        now = datetime.now(UTC)
        lease.spec = client.V1LeaseSpec(
            holder_identity=self._holder,
            lease_duration_seconds=int(self._timing.duration),
            acquire_time=now,
            renew_time=now,
            lease_transitions=(spec.lease_transitions or 0) + (not is_ours),
        )
        await self._replace(lease)
        return True

    async def _renewal(self, holder: str | None = None) -> bool:
        """Renew what is held, or with another holder give it away."""
        lease = self._seen
        if lease is None or lease.spec is None or self._is_anothers():
            lease = await self._read()
            if lease is None or lease.spec is None or lease.spec.holder_identity != self._holder:
                self._seen = lease
                return False
        assert lease.spec is not None  # noqa: S101 - it was read or written by us
        lease.spec.renew_time = datetime.now(UTC)
        if holder is not None:
            lease.spec.holder_identity = holder
        try:
            await self._replace(lease)
        except clients.KubernetesUnavailable as exc:
            if exc.status == 409:
                self._seen = await self._read()  # an answer of ours was lost, or it is another's
            raise
        return True

    def _is_anothers(self) -> bool:
        spec = self._seen.spec if self._seen is not None else None
        return spec is None or spec.holder_identity != self._holder

    async def _read(self) -> client.V1Lease | None:
        try:
            with clients.asking(f"Lease {self._name}"):
                return await self._api.read_namespaced_lease(
                    self._name, self._namespace, _request_timeout=self._timing.request
                )
        except clients.KubernetesUnavailable as exc:
            if exc.status == 404:
                return None
            raise

    async def _create(self) -> None:
        now = datetime.now(UTC)
        lease = client.V1Lease(
            metadata=client.V1ObjectMeta(name=self._name),
            spec=client.V1LeaseSpec(
                holder_identity=self._holder,
                lease_duration_seconds=int(self._timing.duration),
                acquire_time=now,
                renew_time=now,
                lease_transitions=0,
            ),
        )
        with clients.asking(f"creating Lease {self._name}"):
            self._seen = await self._api.create_namespaced_lease(
                self._namespace, lease, _request_timeout=self._timing.request
            )

    async def _replace(self, lease: client.V1Lease) -> None:
        with clients.asking(f"Lease {self._name}"):
            self._seen = await self._api.replace_namespaced_lease(
                self._name, self._namespace, lease, _request_timeout=self._timing.request
            )
