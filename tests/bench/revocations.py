"""How soon a revocation holds, while the ordered drain is far behind: `make bench`.

It holds at the moment when a read on another connection shows it: a user who reads as inactive or is gone, a
member who reads as in the group no more. Three kinds take turns: a PATCH of `active`, a DELETE, and the
removal of a member; each is timed from the first byte of its request. Its own answer comes at its turn, so
nobody waits for it.

- `revoke_p99_ms`: no worker runs, and 50,000 changes wait before the first revocation;
- `revoke_killed_p99_ms`: a worker works them off meanwhile, is killed with SIGKILL after a third of the
  revocations, and another is started a second later.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import clients
import reports
import systems

from usher_core.queues import keys
from usher_core.testing import loads, stacks

GOAL, GOAL_KILLED = 1_000, 5_000
GROUP_SIZE = 20
EVERY = 0.025
POLL = 0.002
PATIENCE = 60.0
RESTART_AFTER = 1.0

Send = Callable[[clients.Client], Coroutine[Any, Any, None]]
Holds = Callable[[clients.Client], Awaitable[bool]]
Kill = Callable[[], Coroutine[Any, Any, None]]
Revocation = tuple[Send, Holds]


async def make_people(access: stacks.Access, count: int) -> list[Revocation]:
    """Create so many users, in groups, and return a revocation for each, of all kinds by turns."""
    async with contextlib.AsyncExitStack() as opened:
        pool = [await opened.enter_async_context(clients.Client(access)) for _ in range(8)]

        async def create(client: clients.Client, numbers: Iterator[int]) -> list[str]:
            return [await client.create("/Users", {"userName": f"{number}@revoked.x"}) for number in numbers]

        numbers = iter(range(count))  # shared: each client takes the next one
        users = list(itertools.chain(*await asyncio.gather(*(create(client, numbers) for client in pool))))
        found = []
        for start in range(0, count, GROUP_SIZE):
            members = users[start : start + GROUP_SIZE]
            group = await pool[0].create(
                "/Groups", {"displayName": f"G{start}", "members": [{"value": one} for one in members]}
            )
            found += [revocation(number, user, group) for number, user in enumerate(members, start)]
    return found


def revocation(number: int, user: str, group: str) -> Revocation:
    kind = number % 3

    async def send(client: clients.Client) -> None:
        match kind:
            case 0:
                operation: dict[str, Any] = {"op": "replace", "path": "active", "value": False}
                await client.request("PATCH", f"/Users/{user}", {"Operations": [operation]})
            case 1:
                await client.request("DELETE", f"/Users/{user}")
            case _:
                operation = {"op": "remove", "path": f'members[value eq "{user}"]'}
                await client.request("PATCH", f"/Groups/{group}", {"Operations": [operation]})

    async def holds(client: clients.Client) -> bool:
        wanted = "groups" if kind == 2 else "active"
        status, shown = await client.request("GET", f"/Users/{user}?attributes={wanted}")
        if status == 404:
            return True
        assert status == 200, (status, shown)
        if kind == 2:
            return all(one["value"] != group for one in shown.get("groups", ()))
        return shown.get("active") is False

    return send, holds


async def timed(access: stacks.Access, one: Revocation) -> float:
    """Revoke, and wait until a read shows it; in seconds."""
    send, holds = one
    async with clients.Client(access) as writer, clients.Client(access) as reader:
        assert not await holds(reader)
        began = time.perf_counter()
        sending = asyncio.create_task(send(writer))
        try:
            while not await holds(reader):
                if time.perf_counter() - began > PATIENCE:
                    raise SystemExit("a revocation does not hold after a minute")
                await asyncio.sleep(POLL)
            return time.perf_counter() - began
        finally:
            sending.cancel()
            await asyncio.wait([sending])


async def revoke_all(access: stacks.Access, revocations: list[Revocation], kill: Kill | None) -> list[float]:
    """Send one each `EVERY` seconds, whatever became of those before."""
    running: list[asyncio.Task[float]] = []
    killing = None
    for number, one in enumerate(revocations):
        if kill is not None and number == len(revocations) // 3:
            killing = asyncio.create_task(kill())
        running.append(asyncio.create_task(timed(access, one)))
        await asyncio.sleep(EVERY)
    latencies = await asyncio.gather(*running)
    if killing is not None:
        await killing
    return list(latencies)


def measure(count: int, pending: int, *, killed: bool) -> reports.Row:
    with (
        systems.serving() as (up, folder),
        systems.usher(up, folder) as stack,
        loads.Load(up.database.owner, up.redis_url) as load,
    ):
        [access] = systems.make_tenants(stack, 1)
        revocations = asyncio.run(make_people(access, count))
        stack.kill_worker()
        load.append(access.tenant, *(f"{number}@pending.x" for number in range(pending)))
        stream = keys.changes(access.tenant)

        async def kill() -> None:
            await asyncio.to_thread(stack.kill_worker)
            await asyncio.sleep(RESTART_AFTER)
            await asyncio.to_thread(stack.start_worker)

        if killed:
            stack.start_worker()
            loads.wait_until(lambda: load.client.xlen(stream) < pending)
        before = load.client.xlen(stream)
        latencies = asyncio.run(revoke_all(access, revocations, kill if killed else None))
        after = load.client.xlen(stream)
        stack.kill_api()  # it would wait for the outcomes that nobody waits for any more
    milliseconds = [one * 1000 for one in latencies]
    return reports.at_most(
        reports.percentile(milliseconds, 0.99),
        GOAL_KILLED if killed else GOAL,
        p50_ms=round(reports.percentile(milliseconds, 0.5), 2),
        slowest_ms=round(max(milliseconds), 2),
        revocations=count,
        pending_before=before,
        pending_after=after,
    )


def main() -> None:
    parser = reports.arguments(__doc__)
    parser.add_argument("--count", type=int, default=300, help="revocations in each run (default 300)")
    parser.add_argument("--pending", type=int, default=50_000)
    args = parser.parse_args()
    found = {
        "revoke_p99_ms": measure(args.count, args.pending, killed=False),
        "revoke_killed_p99_ms": measure(args.count, args.pending, killed=True),
    }
    reports.show("Until a revocation holds, with changes that wait (p99, milliseconds)", found)
    reports.write(found, args.out)


if __name__ == "__main__":
    main()
