"""A change of a tenant's schemas in its turn: checked against all that is stored, then accepted or refused.

`drains` takes such a change alone and calls `apply`. Later changes of the tenant wait, so nothing is written
that was not looked at. The check goes on where it was: after a drain gave way to another tenant, and after a
worker died.
"""

from __future__ import annotations

import time

import structlog

from usher_core import errors
from usher_core.changes import records
from usher_core.scim import documents, registries, schemas
from usher_core.store import batches, schema_checks
from usher_core.store.schema_checks import Check, Transition
from usher_core.tenants import caches
from usher_worker import holds

log = structlog.get_logger(__name__)


def apply(
    hold: holds.Hold, entry: batches.Entry, deaths: int, in_small_steps: bool
) -> records.Outcome | None:
    """Go on with the check and return the outcome; `None` when the drain has to give way before.

    `deaths`: how many workers died over what comes next in it. `in_small_steps`: few resources at a time.

    Raises:
        StoreUnavailable, DrainSuperseded: what was committed of it stays.
    """
    if deaths >= hold.settings.alone_attempts:
        return hold.bury(entry, "WorkerDied", "A worker died each time it applied this change.", deaths)
    run = _Run(hold, entry, schema_checks.SMALL_SLICE if in_small_steps else schema_checks.SLICE)
    try:
        return run.go_on()
    except (batches.ChangeBroken, batches.ConstraintHit) as exc:
        holds.note_failure("batch.failed", exc, changes=1)
        try:
            return hold.insist(run.go_on, exc)
        except (batches.ChangeBroken, batches.ConstraintHit) as broken:
            return hold.bury_broken(entry, broken)


class _Run:
    """One drain's work on one change of the schemas."""

    def __init__(self, hold: holds.Hold, entry: batches.Entry, size: int) -> None:
        self._hold = hold
        self._entry = entry
        self._change = entry[1]
        self._size = size
        self._whose = (hold.store, hold.tenant, hold.epoch)

    def go_on(self) -> records.Outcome | None:
        """Do what is left; `None` when the drain has to give way before."""
        gives_way = time.monotonic() + self._hold.settings.drain_slice
        persist = self._hold.persist
        before = persist(lambda: self._hold.store.registry(self._hold.tenant))
        done = persist(lambda: self._hold.store.recall(self._hold.tenant, self._hold.epoch, self._change))
        if done is not None:
            # It was concluded by a worker that died before it took out what it had put in.
            self._clean(before)
            return done
        check = persist(lambda: schema_checks.look(*self._whose))
        if check is None or check.change_id != self._change.change_id:
            self._clean(before)
            return persist(lambda: schema_checks.supersede(*self._whose, self._entry))
        try:
            transition = Transition(before, registries.build(self._change.body, before.version))
        except errors.InvalidValue as exc:
            return self._refuse(before, f"The schemas can't be: {exc.detail}")
        if check.state == "queued":
            self._clean(before)
            queued = check
            check = persist(lambda: schema_checks.begin(*self._whose, queued, transition))
        while (after := self._next(check, transition)) is not None:
            check = after
            self._hold.tail.begin_attempt()
            self._hold.renew()
            if self._hold.is_over or time.monotonic() > gives_way:
                return None
        return self._conclude(check, transition)

    def _next(self, check: Check, transition: Transition) -> Check | None:
        return self._hold.persist(lambda: schema_checks.go_on(*self._whose, check, transition, self._size))

    def _conclude(self, check: Check, transition: Transition) -> records.Outcome:
        if check.found:
            shown = f"{check.found:,} contradictions in {check.total:,} resources"
            return self._refuse(transition.before, f"What is stored contradicts the schemas: {shown}.")
        outcome = self._hold.persist(lambda: schema_checks.accept(*self._whose, self._entry))
        after = self._hold.persist(lambda: self._hold.store.registry(self._hold.tenant))
        self._hold.process.registries.keep(self._hold.tenant, after)
        log.info("schemas.accepted", version=after.version, checked=check.checked)
        if not _spaces(transition.before) <= _spaces(after):
            # Until then an api may look values up in a space that nothing is put in any more.
            self._hold.process.stopping.wait(caches.LIFETIME)
        self._clean(after)
        return outcome

    def _refuse(self, before: schemas.Registry, detail: str) -> records.Outcome:
        outcome = self._hold.persist(lambda: schema_checks.refuse(*self._whose, self._entry, detail))
        log.info("schemas.refused", detail=detail)
        self._clean(before)
        return outcome

    def _clean(self, registry: schemas.Registry) -> None:
        """Take out what was put in for other schemas than those that hold."""
        while self._hold.persist(lambda: schema_checks.forget_others(*self._whose, registry)):
            self._hold.renew()


def _spaces(registry: schemas.Registry) -> set[tuple[str, str]]:
    return {(kind.name, space) for kind in registry.resource_types for space in documents.unique_spaces(kind)}
