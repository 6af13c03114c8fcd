"""Why a write is refused, in the protocol's words: by the queue, or by the outcome of its change."""

from __future__ import annotations

import math

from usher_core import errors
from usher_core.changes import records
from usher_core.queues import appends

_BY_STATUS: dict[int, type[errors.ScimError]] = {
    403: errors.Forbidden,
    404: errors.NotFound,
    409: errors.UniquenessViolated,
    412: errors.PreconditionFailed,
    500: errors.ChangeFailed,
}
_BY_SCIM_TYPE: dict[str | None, type[errors.ScimError]] = {
    kind.scim_type: kind
    for kind in (
        errors.InvalidFilter,
        errors.InvalidPath,
        errors.InvalidSyntax,
        errors.InvalidValue,
        errors.InvalidVersion,
        errors.MutabilityViolated,
        errors.NoTarget,
        errors.TooMany,
    )
}


def of_outcome(outcome: records.Outcome) -> errors.ScimError:
    """Say what the outcome of a failed change says."""
    kind = _BY_STATUS.get(outcome.status) or _BY_SCIM_TYPE.get(outcome.scim_type, errors.InvalidValue)
    return kind(outcome.detail or "The change was refused.")


def of_append(failure: errors.UsherError, wait: float) -> errors.ScimError:
    """Say why a change was not queued; `wait`: how long a request waits, in seconds."""
    match failure:
        case appends.RateExceeded():
            return too_often("writes", failure.seconds, "requestsPerSecond")
        case appends.TooManyPending():
            return errors.TooManyRequests(
                "As many changes of this tenant are waiting as its limits.maxPendingChanges allows.",
                retry_after=max(1, math.ceil(wait / 5)),
            )
        case appends.Backlogged():
            return errors.Unavailable(
                "Earlier changes of this tenant are still waiting; this one was not accepted. Try again.",
                retry_after=max(1, math.ceil(wait / 5)),
            )
        case appends.GenerationLost():
            return errors.Unavailable(
                "The queue has restarted, and changes accepted before go first: this one was not accepted. "
                "Try again.",
                retry_after=2,
            )
        case errors.QueueFull():
            return no_memory()
        case errors.StoreUnavailable():
            return errors.Unavailable("The store can't answer now. Try again.", retry_after=2)
        case _:
            return errors.Unavailable(
                "The queue is away: whether the change was accepted is not known. Try again.", retry_after=2
            )


def too_often(what: str, seconds: float, limit: str) -> errors.TooManyRequests:
    """Say that a tenant asks more often than it may; there is room after so many seconds."""
    return errors.TooManyRequests(
        f"This tenant has more {what} a second than its limits.{limit} allows.",
        retry_after=max(1, math.ceil(seconds)),
    )


def no_memory() -> errors.Unavailable:
    """Say that the queue has no room: what waits is worked off first."""
    return errors.Unavailable(
        "The queue is nearly full: the change was not accepted. Try again.", retry_after=5
    )


def no_turn(wait: float) -> errors.Unavailable:
    """Say that a change never came to its turn among the tenant's other writes."""
    return errors.Unavailable(
        "Other changes of this tenant were under way all the time; this one was not accepted. Try again.",
        retry_after=max(1, math.ceil(wait / 5)),
    )


def late() -> errors.Unavailable:
    """Say that the outcome is not known yet."""
    return errors.Unavailable(
        "The change was not applied in time. It may still be: try again later.", retry_after=5
    )
