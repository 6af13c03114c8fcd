"""Bringing a deleted user back: a change like any other, through the tenant's stream, in its turn.

So it is applied once and in order, by whoever drains the tenant, and decided by what is there by then: a
userName that was taken meanwhile stays its new owner's. Called by `usher users restore`.
"""

from __future__ import annotations

from usher_core import errors, ids, settings
from usher_core.changes import policies, records
from usher_core.operations import submissions
from usher_core.store import databases, deletions

ORIGIN = "usher users restore"
"""Stands in the change log where requests have their id."""


class RestorationRefused(errors.UsherError):
    """The user can't be brought back as things are; the message says why."""


async def restore(
    config: settings.Settings, database: databases.Database, tenant: ids.TenantId, user: ids.ResourceId
) -> records.Outcome:
    """Restore a deleted user under its old id, in no group; returns once that is committed.

    Raises:
        RestorationRefused: there is no such deleted user, or its userName is taken; or it is not known in
            time whether it was restored.
        StoreUnavailable, QueueUnavailable: a backend is away.
    """
    found = await deletions.find_user(database, tenant, user)
    if found is None:
        raise RestorationRefused(
            f"there is no deleted user with the id {user}: it lives, never was, or is no longer kept"
        )
    change = records.Change(
        change_id=ids.ChangeId(ids.new_uuid()),
        accepted_at=records.now(),
        operation="restore",
        resource_type=policies.USERS,
        resource_id=user,
        body=found.stored.document,
        if_match=None,
        token_id="",
        request_id=ORIGIN,
        reply_to="",
    )
    try:
        outcome = await submissions.submit(config, database, tenant, change)
    except (submissions.NotQueued, submissions.NotInTime) as exc:
        raise RestorationRefused(str(exc)) from exc
    if not outcome.succeeded:
        raise RestorationRefused(f"the user is not restored: {outcome.detail}")
    return outcome
