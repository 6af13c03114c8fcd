"""How soon a tenant is looked at again: after a look that went well, and after one that did not.

`looks` and `handlers` ask. Invariant: an idle operator asks the API server at most five times a second for
a thousand tenants, and nothing is tried again in a hot loop.
"""

from __future__ import annotations

import random
import zlib
from datetime import datetime, timedelta

from usher_core.tenants import reconciliations
from usher_operator import conditions, inventories, moments
from usher_operator.inventories import Body, Key

LOOK_AGAIN = 295.0  # seconds; a Secret or ConfigMap that changed is noticed within five minutes
LOOK_SOON = 3.0  # while something is under way that will soon be otherwise by itself
HOPE = 4.0  # what has been wrong for so many seconds is looked at after a quarter of them
LOOK_AT_WRONG = 5.0  # and not before
FIRST_RETRY = 1.0
FIRST_RETRY_OF_REFUSED = 15.0
LONGEST_RETRY = 30.0
RESUMED_PER_SECOND = 50.0  # tenants that a new operator finds in order

MANY = 500  # tenants; beyond, metadata and schemas that were in order are believed for a while
SOURCES_PER_SECOND = 1.2  # so many of them are then read, beside a Secret a look
REMEMBERED = 5.0, 900.0  # seconds, at least and at most


def after(done: reconciliations.Reconciled, body: Body, now: datetime, *, at_most: float = 0.0) -> float:
    """Tell in how many seconds to look again after a look that went well; with `at_most`, not later."""
    if not done.is_settled:
        return LOOK_SOON
    delays = [_turn(inventories.key_of(body), now)]
    if at_most:
        delays.append(at_most)
    ready = conditions.find(body.get("status") or {}, "Ready")
    since = moments.read(ready.get("lastTransitionTime", ""))
    if ready.get("status") != "True" and ready.get("reason") != "Suspended" and since is not None:
        # Whoever makes a tenant often brings what it lacks a moment later.
        delays.append(max((now - since).total_seconds() / HOPE, LOOK_AT_WRONG))
    delays.extend(_until(moment, now) for moment in _turns(done))
    return min(delays)


def _turn(key: Key, now: datetime) -> float:
    """Tell the seconds until a tenant's own moment of all `LOOK_AGAIN`.

    By its name, so that looks stay spread however many tenants were made, or found by a restart, at once.
    """
    phase = zlib.crc32("/".join(key).encode()) / 2**32 * LOOK_AGAIN
    left = (phase - now.timestamp()) % LOOK_AGAIN
    return left if left > LOOK_AGAIN / 100 else left + LOOK_AGAIN


def _turns(done: reconciliations.Reconciled) -> list[datetime]:
    """List the moments at which the tenant will be otherwise by itself."""
    turns = [token.renew_at for token in done.tokens]
    turns += [token.previous.ends_at for token in done.tokens if token.previous is not None]
    return turns if done.sso_ends_at is None else [*turns, done.sso_ends_at]


def _until(moment: datetime, now: datetime) -> float:
    left = (moment - now) / timedelta(seconds=1)
    # What is past was seen; a renewal that is refused is tried again with all else.
    return left + 0.1 if left > 0 else LOOK_AGAIN


def at_first(body: Body, known: int) -> float:
    """Tell how soon to look at an object that was there when this operator came; `known` are so many.

    What is in order is looked at in turn, so that a restart is no storm.
    """
    status, metadata = body.get("status") or {}, body["metadata"]
    in_order = (
        status.get("observedGeneration") == metadata.get("generation")
        and conditions.find(status, "Ready").get("status") == "True"
        and "deletionTimestamp" not in metadata
    )
    return random.uniform(0, known / RESUMED_PER_SECOND) if in_order else 0.0  # noqa: S311


def memory(tenants: int, sources: int) -> float:
    """Tell for how many seconds a source is believed; one that several tenants name counts once."""
    if tenants <= MANY:
        return 0.0
    least, most = REMEMBERED
    return min(max(least, sources / SOURCES_PER_SECOND), most)


class Failures:
    """Counts the failed looks of each tenant since the last good one, to wait longer each time."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}

    def delay(self, key: Key, *, refused: bool = False) -> float:
        """Count another failure; tells in how many seconds to try again."""
        count = self._counts.get(key, 0)
        self._counts[key] = count + 1
        first = FIRST_RETRY_OF_REFUSED if refused else FIRST_RETRY
        return min(first * 2.0 ** min(count, 10), LONGEST_RETRY) * random.uniform(1, 1.5)  # noqa: S311

    def forget(self, key: Key) -> None:
        """Count from the beginning."""
        self._counts.pop(key, None)
