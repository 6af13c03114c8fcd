"""What each subcommand of `usher tokens` does, from its options to its output; called by `commands` alone."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, TypeVar

import click

from usher_core import errors, ids, settings
from usher_core.changes import records
from usher_core.operations import backends, reports, tables, tenancies
from usher_core.store import databases, tenants
from usher_core.tenants import standings

T = TypeVar("T")

Shown = list[dict[str, Any]]


class NoSuchToken(errors.UsherError):
    """What was asked for does not exist, or does not work any more; the message names it."""


def list_tokens(tenant: str, *, as_json: bool) -> None:
    """Run `usher tokens list`."""

    async def work(store: databases.Database) -> Shown:
        _, rows = await _rows(store, tenant)
        return standings.describe(rows, records.now())

    shown = _run(work)
    _show(shown, as_json=as_json)
    if not shown and not as_json:
        click.echo("The tenant has no token.")


def rotate_tokens(tenant: str, chosen: Iterable[str], *, as_json: bool) -> None:
    """Run `usher tokens rotate`."""

    async def work(store: databases.Database) -> Shown:
        now = records.now()
        tenant_id, rows = await _rows(store, tenant)
        wanted = _pick(chosen, standings.current(rows, now), rows)
        for row in wanted:
            await tenants.request_rotation(store, tenant_id, row.token_id, now)
        return await _describe(store, tenant, wanted)

    _show(_run(work), as_json=as_json)
    if not as_json:
        click.echo("The operator issues a new token at its next look, within five minutes.", err=True)


def revoke_tokens(tenant: str, chosen: Iterable[str], *, yes: bool, as_json: bool) -> None:
    """Run `usher tokens revoke`."""

    async def look(store: databases.Database) -> list[tenants.TokenRow]:
        _, rows = await _rows(store, tenant)
        return _pick(chosen, standings.living(rows, records.now()), rows)

    async def describe(store: databases.Database) -> Shown:
        return await _describe(store, tenant, wanted)

    async def work(store: databases.Database) -> Shown:
        tenant_id, _ = await _rows(store, tenant)
        await tenants.revoke_tokens(store, tenant_id, [row.token_id for row in wanted], records.now())
        return await describe(store)

    wanted = _run(look)
    if not yes:
        _show(_run(describe), as_json=False, err=True)
        number = "this token" if len(wanted) == 1 else f"these {len(wanted)} tokens"
        click.confirm(f"Revoke {number} of {tenant} for good?", abort=True, err=True)
    _show(_run(work), as_json=as_json)


def _run(work: Callable[[databases.Database], Coroutine[Any, Any, T]]) -> T:
    config = settings.load()

    async def run() -> T:
        async with backends.open_store(config) as store:
            return await work(store)

    return backends.run(config, run())


async def _rows(store: databases.Database, tenant: str) -> tuple[ids.TenantId, tuple[tenants.TokenRow, ...]]:
    [found] = await tenancies.pick(store, tenant)
    return found.tenant, await tenants.list_tokens(store, found.tenant)


async def _describe(store: databases.Database, tenant: str, wanted: Iterable[tenants.TokenRow]) -> Shown:
    """Describe tokens as they stand by now, beside the tenant's others."""
    chosen = {row.token_id for row in wanted}
    _, rows = await _rows(store, tenant)
    return [one for one in standings.describe(rows, records.now()) if one["id"] in chosen]


def _pick(
    chosen: Iterable[str], candidates: Sequence[tenants.TokenRow], rows: Iterable[tenants.TokenRow]
) -> list[tenants.TokenRow]:
    """Pick those of these names or ids, each once.

    Raises:
        NoSuchToken: one of them means none.
    """
    picked: dict[ids.TokenId, tenants.TokenRow] = {}
    names = [row.name for row in rows]
    known = {*names, *(row.token_id for row in rows)}
    for one in chosen:
        found = [row for row in candidates if one in (row.name, row.token_id)]
        if not found and one in known:
            raise NoSuchToken(f"{one}: no current token; usher tokens list tells how its tokens stand")
        if not found:
            raise NoSuchToken(f"{one}: the tenant has no such token{tenancies.closest(one, names)}")
        picked |= {row.token_id: row for row in found}
    return list(picked.values())


def _show(shown: Shown, *, as_json: bool, err: bool = False) -> None:
    if as_json:
        click.echo(reports.as_json(shown), err=err)
    elif shown:
        click.echo(tables.render(standings.HEAD, map(standings.cells, shown)), err=err)
