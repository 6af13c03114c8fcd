"""Turns between the tenants of one api process: beside others, none has more than a few writes under way.

`writes` takes a turn before it queues a change that takes nothing away, and keeps it until the outcome is
there. Everything on the way of a write works first in, first out, so that the wait of a quiet tenant is what
the others have under way. Invariant: a tenant that writes alone is not held back, for its large batches are
what makes it fast; a revocation takes no turn.
"""

from __future__ import annotations

import asyncio
import collections
import math

from usher_core import ids

MEMORY = 10.0
"""Seconds for which a process remembers that a tenant wrote.

A tenant that writes every few seconds then finds room each time; so short a queue costs the others little."""


class Turns:
    """Lets at most so many writes of a tenant go on while others write too; one an event loop."""

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most
        self._under_way: collections.Counter[ids.TenantId] = collections.Counter()
        self._waiting: dict[ids.TenantId, collections.deque[asyncio.Future[None]]] = {}
        self._latest: ids.TenantId | None = None
        self._latest_at = -math.inf
        self._before_at = -math.inf
        """When a tenant other than the latest one wrote."""
        self._timer: asyncio.TimerHandle | None = None

    def take(self, tenant: ids.TenantId) -> bool:
        """Take a turn if there is one at once; give it back with `leave`."""
        now = asyncio.get_running_loop().time()
        if self._latest != tenant:
            self._latest, self._before_at = tenant, self._latest_at
        self._latest_at = now
        if self._shares_until(tenant) > now and self._under_way[tenant] >= self._at_most:
            return False
        self._under_way[tenant] += 1
        return True

    async def wait(self, tenant: ids.TenantId, *, patience: float) -> None:
        """Wait for a turn that was not there, in the order of asking; give it back with `leave`.

        Raises:
            TimeoutError: none came within `patience` seconds.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        line = self._waiting.setdefault(tenant, collections.deque())
        line.append(turn)
        if self._timer is None:
            self._timer = loop.call_at(self._shares_until(tenant), self._look)
        try:
            async with asyncio.timeout(patience):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.leave(tenant)
            elif tenant in self._waiting and turn in line:
                line.remove(turn)
            raise

    def leave(self, tenant: ids.TenantId) -> None:
        """Give a turn back; who waits longest has it next."""
        left = self._under_way[tenant] - 1
        if left:
            self._under_way[tenant] = left
        else:
            del self._under_way[tenant]
        if self._waiting and tenant in self._waiting:
            self._let_in(tenant, self._at_most - left)

    def _shares_until(self, tenant: ids.TenantId) -> float:
        """Tell until when a tenant is held back for the sake of those that wrote last."""
        return MEMORY + (self._before_at if tenant == self._latest else self._latest_at)

    def _look(self) -> None:
        """Let all of a tenant go on once no other one has written for a while."""
        self._timer = None
        loop = asyncio.get_running_loop()
        for tenant, line in list(self._waiting.items()):
            if self._shares_until(tenant) <= loop.time():
                self._let_in(tenant, len(line))
        if self._waiting:
            self._timer = loop.call_at(min(map(self._shares_until, self._waiting)), self._look)

    def _let_in(self, tenant: ids.TenantId, count: int) -> None:
        line = self._waiting[tenant]
        while line and count > 0:
            turn = line.popleft()
            if not turn.done():
                turn.set_result(None)
                self._under_way[tenant] += 1
                count -= 1
        if not line:
            del self._waiting[tenant]
