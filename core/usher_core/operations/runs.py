"""What each subcommand does, from its options to its output and exit code; called by `commands` alone."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import datetime
import getpass
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

import click
import redis.asyncio

from usher_core import errors, ids, settings
from usher_core.changes import records
from usher_core.operations import (
    backends,
    effects,
    listings,
    moments,
    pendings,
    reports,
    retries,
    standings,
    submissions,
    tenancies,
    texts,
)
from usher_core.queues import connections
from usher_core.store import databases, dead_letters, histories, registries

# As far back as a list looks when nobody says how far.
DAYS = datetime.timedelta(days=7)
REFUSED = 1


class NotThere(errors.UsherError):
    """What was asked for does not exist; the message names it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Session:
    """The settings, the store and the queue of one command."""

    config: settings.Settings
    store: databases.Database
    queue: redis.asyncio.Redis

    async def tenants(self, label: str | None) -> list[histories.Tenant]:
        """Pick one tenant, or all."""
        return await tenancies.pick(self.store, label)

    def warn(self, failure: errors.UsherError) -> None:
        """Tell that a backend is away, and that the command goes on."""
        click.echo(f"usher: {backends.describe(self.config, failure)}", err=True)


def list_changes(
    *,
    tenant: str,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
    before: uuid.UUID | None,
    limit: int,
    as_json: bool,
    reveal: bool,
    **wishes: Any,
) -> None:
    """Run `usher changes list`."""

    async def work(session: Session) -> tuple[list[dict[str, Any]], histories.Selection]:
        [found] = await session.tenants(tenant)
        selection, view = await _select(session, found, reveal=reveal, **wishes)
        selection = dataclasses.replace(
            selection,
            since=since or records.now() - DAYS,
            until=until or records.now() + datetime.timedelta(minutes=1),
            before=None if before is None else await _place(session, found, ids.ChangeId(before)),
        )
        queue = None if selection.states and "pending" not in selection.states else session.queue
        try:
            listed = await listings.newest(session.store, queue, found.tenant, selection, limit)
        except errors.QueueUnavailable as exc:
            if selection.states == {"pending"}:
                raise
            # In an outage the log alone is better than nothing.
            session.warn(exc)
            click.echo("usher: changes that wait are not shown", err=True)
            listed = await listings.newest(session.store, None, found.tenant, selection, limit)
        return [view.change(entry, found.label) for entry in listed], selection

    shown, selection = _run(work)
    if as_json:
        click.echo(reports.as_json(shown))
    elif shown:
        click.echo(texts.changes(shown))
        if len(shown) == limit:
            click.echo(f"There may be more: --before {shown[-1]['change']}", err=True)
    else:
        click.echo(f"No such change was accepted since {moments.iso(selection.since)}.")


def show_change(change_id: ids.ChangeId, tenant: str | None, *, as_json: bool, reveal: bool) -> None:
    """Run `usher changes show`."""

    async def work(session: Session) -> dict[str, Any]:
        known = {one.tenant: one for one in await session.tenants(tenant)}
        entry = await _find(session, list(known), change_id)
        if entry is None:
            raise NotThere(
                f"there is no change {change_id}: it never was accepted, or is no longer in the log"
            )
        before = None
        if entry.state == "pending":
            before = await pendings.count_before(session.queue, entry)
        registry = await registries.current(session.store, entry.tenant)
        effect = await effects.tell(session.store, registry, entry)
        view = reports.View(reveal, await tenancies.name_tokens(session.store, entry.tenant))
        shown = view.shown_change(entry, known[entry.tenant].label, effect, before)
        if entry.operation == "bulk":
            parts = await histories.parts(session.store, entry)
            shown["operations"] = [view.change(part, known[entry.tenant].label) for part in parts]
        return shown

    shown = _run(work)
    click.echo(reports.as_json(shown) if as_json else texts.change(shown))


def follow_changes(*, tenant: str, seconds: float | None, as_json: bool, reveal: bool, **wishes: Any) -> None:
    """Run `usher changes follow`."""

    async def work(session: Session) -> None:
        [found] = await session.tenants(tenant)
        selection, view = await _select(session, found, reveal=reveal, **wishes)
        async for entry in listings.follow(
            session.store,
            session.queue,
            found.tenant,
            selection,
            seconds=seconds,
            on_start=lambda: click.echo(f"Following {found.label}; Ctrl-C ends it.", err=True),
            on_loss=session.warn,
        ):
            if entry.token_id and entry.token_id not in view.tokens:
                view = dataclasses.replace(
                    view, tokens=await tenancies.name_tokens(session.store, found.tenant)
                )
            shown = view.change(entry, found.label)
            click.echo(reports.as_json(shown, line=True) if as_json else texts.change_line(shown))

    _run(work)


def list_letters(tenant: str | None, *, as_json: bool) -> None:
    """Run `usher dead-letters list`."""

    async def work(session: Session) -> list[dict[str, Any]]:
        known = {one.tenant: one for one in await session.tenants(tenant)}
        letters = await dead_letters.list_letters(session.store, list(known))
        views = {
            one: reports.View(tokens=await tenancies.name_tokens(session.store, one))
            for one in {letter.tenant for letter in letters}
        }
        return [views[one.tenant].letter(one, known[one.tenant].label) for one in letters]

    shown = _run(work)
    if as_json:
        click.echo(reports.as_json(shown))
    else:
        click.echo(texts.letters(shown) if shown else "There is no dead letter.")


def show_letter(change_id: ids.ChangeId, tenant: str | None, *, as_json: bool, reveal: bool) -> None:
    """Run `usher dead-letters show`."""

    async def work(session: Session) -> dict[str, Any]:
        [(letter, label)] = await _letters(session, tenant, [change_id])
        view = reports.View(reveal, await tenancies.name_tokens(session.store, letter.tenant))
        return view.shown_letter(letter, label)

    shown = _run(work)
    click.echo(reports.as_json(shown) if as_json else texts.letter(shown))


def retry_letters(chosen: Sequence[ids.ChangeId], tenant: str | None, *, force: bool, as_json: bool) -> None:
    """Run `usher dead-letters retry`; each letter has its own outcome, and one that is kept makes it fail."""

    async def work(session: Session) -> list[dict[str, Any]]:
        results = []
        for letter, label in await _letters(session, tenant, chosen):
            result: dict[str, Any] = {"change": str(letter.change_id), "tenant": label, "applied": False}
            try:
                done = await retries.retry(session.config, session.store, session.queue, letter, force=force)
            except (
                retries.RetryRefused,
                submissions.NotQueued,
                submissions.NotInTime,
                errors.ConfigurationInvalid,
            ) as exc:
                result |= {"reason": str(exc), "kept": not isinstance(exc, retries.Settled)}
                if isinstance(exc, retries.WouldOvertake):
                    view = reports.View(tokens=await tenancies.name_tokens(session.store, letter.tenant))
                    result["later"] = [view.change(one, label) for one in exc.later]
            else:
                result |= {"applied": True, "appliedAs": str(done.change_id), "status": done.status}
                result |= {"version": done.version, "earlier": done.earlier}
            if not as_json:
                _tell_retry(result)
            results.append(result)
        return results

    results = _run(work)
    if as_json:
        click.echo(reports.as_json(results))
    if not all(result["applied"] for result in results):
        sys.exit(REFUSED)


def discard_letters(chosen: Sequence[ids.ChangeId], tenant: str | None, *, yes: bool) -> None:
    """Run `usher dead-letters discard`."""

    async def look(session: Session) -> list[tuple[dead_letters.Letter, str]]:
        return await _letters(session, tenant, chosen)

    async def work(session: Session) -> None:
        for letter, _ in found:
            by = f"{retries.DISCARD} by {_whoami()}"
            gone = not await dead_letters.discard(session.store, letter, by)
            click.echo(f"{letter.change_id}  {'was gone already' if gone else 'discarded'}")

    found = _run(look)
    if not yes:
        shown = [reports.View().letter(letter, label) for letter, label in found]
        click.echo(texts.letters(shown), err=True)
        number = "this dead letter" if len(found) == 1 else f"these {len(found)} dead letters"
        click.confirm(f"Give {number} up for good?", abort=True, err=True)
    _run(work)


def show_queue(*, watch: bool, interval: float, whole: bool, as_json: bool) -> None:
    """Run `usher queue`."""

    async def look(session: Session) -> dict[str, Any]:
        return reports.queue(await standings.read(session.store, session.queue), whole=whole)

    async def keep_looking(session: Session) -> None:
        with _screen(as_json=as_json) as show:
            while True:
                try:
                    shown = await look(session)
                except (errors.StoreUnavailable, errors.QueueUnavailable) as exc:
                    failure = backends.describe(session.config, exc)
                    show(reports.as_json({"error": failure}, line=True) if as_json else failure)
                else:
                    show(reports.as_json(shown, line=True) if as_json else texts.queue(shown))
                await asyncio.sleep(interval)

    if watch:
        _run(keep_looking)
        return
    shown = _run(look)
    click.echo(reports.as_json(shown) if as_json else texts.queue(shown))


@contextlib.contextmanager
def _screen(*, as_json: bool) -> Iterator[Callable[[str], None]]:
    """Show one text in place of the other on a terminal, and one after the other elsewhere."""
    if as_json or not sys.stdout.isatty():
        yield click.echo
        return
    from rich import live, text

    with live.Live(auto_refresh=False, screen=True) as display:
        yield lambda shown: display.update(text.Text(shown, no_wrap=True, overflow="crop"), refresh=True)


def _run(work: Callable[[Session], Any]) -> Any:
    config = settings.load()

    async def run() -> Any:
        async with _session(config) as session:
            return await work(session)

    return backends.run(config, run())


@contextlib.asynccontextmanager
async def _session(config: settings.Settings) -> AsyncIterator[Session]:
    async with (
        backends.open_store(config) as store,
        connections.connect_async(config.redis_url) as queue,
    ):
        yield Session(config, store, queue)


async def _select(
    session: Session,
    tenant: histories.Tenant,
    *,
    user: str | None,
    resource: uuid.UUID | None,
    states: Sequence[histories.State],
    token: str | None,
    reveal: bool,
) -> tuple[histories.Selection, reports.View]:
    names, tokens = await tenancies.pick_tokens(session.store, tenant.tenant, token)
    subject = None
    if user is not None:
        subject = await histories.find_subject(session.store, tenant.tenant, user)
    selection = histories.Selection(
        since=histories.BEGINNING,
        until=records.now() + datetime.timedelta(days=365),
        resource=None if resource is None else ids.ResourceId(resource),
        subject=subject,
        states=frozenset(states),
        tokens=tokens,
    )
    return selection, reports.View(reveal, names)


async def _place(session: Session, tenant: histories.Tenant, change_id: ids.ChangeId) -> histories.Keyset:
    entry = await _find(session, [tenant.tenant], change_id)
    if entry is None:
        raise NotThere(f"--before {change_id}: the tenant has no such change")
    return entry.accepted_at, entry.change_id


async def _find(
    session: Session, tenants: Sequence[ids.TenantId], change_id: ids.ChangeId
) -> histories.Entry | None:
    try:
        return await listings.find(session.store, session.queue, tenants, change_id)
    except errors.QueueUnavailable as exc:
        session.warn(exc)
        return await listings.find(session.store, None, tenants, change_id)


async def _letters(
    session: Session, tenant: str | None, chosen: Sequence[ids.ChangeId]
) -> list[tuple[dead_letters.Letter, str]]:
    """Find dead letters, each once, in the order in which their changes were accepted."""
    known = {one.tenant: one for one in await session.tenants(tenant)}
    found: dict[ids.ChangeId, tuple[dead_letters.Letter, str]] = {}
    for change_id in chosen:
        letter = await dead_letters.find(session.store, list(known), change_id)
        if letter is None:
            raise NotThere(f"there is no dead letter {change_id}")
        found[change_id] = (letter, known[letter.tenant].label)
    return sorted(found.values(), key=lambda pair: (pair[0].accepted_at, pair[0].change_id))


def _tell_retry(result: dict[str, Any]) -> None:
    if result["applied"]:
        before = "was applied before" if result["earlier"] else "applied"
        click.echo(f"{result['change']}  {before}, as {result['appliedAs']} with status {result['status']}")
        return
    click.echo(f"{result['change']}  {'kept' if result['kept'] else 'gone'}: {result['reason']}", err=True)
    if later := result.get("later"):
        click.echo(texts.changes(later[-10:]), err=True)


def _whoami() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "an unnamed user"
