"""The subcommands `usher changes`, `usher dead-letters` and `usher queue`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from usher_core import ids

if TYPE_CHECKING:
    import datetime

F = TypeVar("F", bound=Callable[..., Any])

DAYS = 7
EXAMPLES_AT = {"max_content_width": 100}


class _When(click.ParamType["datetime.datetime"]):
    """A moment or an age; what reads it is imported when it is needed."""

    name = "when"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime.datetime:
        """Read it."""
        from usher_core.operations import moments

        try:
            return moments.parse(str(value))
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is no moment: write one like 2026-11-24T08:00:00Z, or an age like 2h or 7d",
                param,
                ctx,
            )


def _listed(title: str, *lines: str) -> str:
    """Make a paragraph that help prints line by line, as it stands."""
    return "\n".join(("\b", title, *lines, "", ""))


TENANT = click.option("--tenant", metavar="NAMESPACE/NAME", help="The ScimTenant, by namespace and name.")
REQUIRED_TENANT = click.option(
    "--tenant", required=True, metavar="NAMESPACE/NAME", help="The ScimTenant, by namespace and name."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
REVEAL = click.option("--reveal", is_flag=True, help="Show personal values, which are masked otherwise.")
CHANGE = click.argument("change", metavar="CHANGE", type=click.UUID)
CHANGES = click.argument("chosen", metavar="CHANGE...", type=click.UUID, nargs=-1, required=True)


def _selecting(command: F) -> F:
    """Add the options that say which changes are wanted."""
    for option in (
        click.option("--token", metavar="NAME|ID", help="Changes that came with this token."),
        click.option(
            "--state",
            "states",
            multiple=True,
            type=click.Choice(["pending", "applied", "refused", "dead", "failed"]),
            help="How far they came; may be given several times.",
        ),
        click.option("--resource", metavar="ID", type=click.UUID, help="Changes of this user or group."),
        click.option(
            "--user",
            metavar="NAME|ID",
            help="Changes about the user with this userName, externalId or id, those of groups that name "
            "the user too; deleted users count while they are kept.",
        ),
    ):
        command = option(command)
    return command


@click.group(
    epilog=_listed(
        "A change is",
        "  pending   accepted, and not applied yet",
        "  applied   in effect, or it had nothing left to do",
        "  refused   answered with an error of the client's: 404, 409, 412 …",
        "  dead      given up for a fault of Usher's, and kept: see usher dead-letters",
        "  failed    likewise, but retried or discarded since",
    )
)
def changes() -> None:
    """Look at what identity providers changed: what came in, by which token, when, and what it did.

    The change log is the audit log. What waits in the queue is shown with it. Personal values are masked
    unless --reveal is given. Reads USHER_DATABASE_URL and USHER_REDIS_URL, as the api does.
    """


@changes.command(
    "list",
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "Examples:",
        "  usher changes list --tenant identity/acme",
        "  usher changes list --tenant identity/acme --user ada@example.com --since 30d",
        "  usher changes list --tenant identity/acme --state refused --state dead --since 2h --json",
    ),
)
@REQUIRED_TENANT
@_selecting
@click.option(
    "--since", type=_When(), metavar="WHEN", help=f"Accepted from then on; {DAYS} days if not given."
)
@click.option("--until", type=_When(), metavar="WHEN", help="Accepted before then.")
@click.option(
    "--before", metavar="CHANGE", type=click.UUID, help="Go on below this change, the last of a page."
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="Most changes to show."
)
@JSON
@REVEAL
def list_changes(**options: Any) -> None:
    """List changes, the one accepted last first.

    WHEN is a moment in UTC (2026-11-24, 2026-11-24T08:00:00Z) or an age (90s, 2h, 7d).
    """
    from usher_core.operations import runs

    runs.list_changes(**options)


@changes.command(
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "Examples:",
        "  usher changes show 01a20c50-c195-73ee-9cae-9cf16b4822e3",
        "  usher changes show 01a20c50-c195-73ee-9cae-9cf16b4822e3 --reveal --json",
    ),
)
@CHANGE
@TENANT
@JSON
@REVEAL
def show(change: uuid.UUID, tenant: str | None, *, as_json: bool, reveal: bool) -> None:
    """Show one change: how it ended, what came in, and what it did.

    CHANGE is the id of the change, which is also the transaction (TXN) that an asynchronous request was
    answered with. What it did is computed from the change log, as far as that reaches back.
    """
    from usher_core.operations import runs

    runs.show_change(ids.ChangeId(change), tenant, as_json=as_json, reveal=reveal)


@changes.command(
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "Examples:",
        "  usher changes follow --tenant identity/acme",
        "  usher changes follow --tenant identity/acme --state refused --for 600 --json",
    ),
)
@REQUIRED_TENANT
@_selecting
@click.option("--for", "seconds", type=click.FloatRange(min=0), metavar="SECONDS", help="End after so long.")
@JSON
@REVEAL
def follow(**options: Any) -> None:
    """Print changes as they are applied, until Ctrl-C; with --json one object a line."""
    from usher_core.operations import runs

    runs.follow_changes(**options)


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at the changes that were given up for a fault of Usher's, and settle them.

    Their clients were answered 500. Once the cause is gone, retry them, or discard what no longer matters.
    Personal values are masked unless --reveal is given. Reads USHER_DATABASE_URL and USHER_REDIS_URL.
    """


@dead_letters.command(
    "list",
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "Examples:",
        "  usher dead-letters list",
        "  usher dead-letters list --tenant identity/acme --json",
    ),
)
@TENANT
@JSON
def list_letters(tenant: str | None, *, as_json: bool) -> None:
    """List dead letters of one tenant or of all, the oldest first."""
    from usher_core.operations import runs

    runs.list_letters(tenant, as_json=as_json)


@dead_letters.command(
    "show",
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "Example:",
        "  usher dead-letters show 01a20c50-c195-73ee-9cae-9cf16b4822e3",
    ),
)
@CHANGE
@TENANT
@JSON
@REVEAL
def show_letter(change: uuid.UUID, tenant: str | None, *, as_json: bool, reveal: bool) -> None:
    """Show one dead letter: the change, why it failed, how often, and when.

    The messages in a traceback may quote what the change holds; they are masked too.
    """
    from usher_core.operations import runs

    runs.show_letter(ids.ChangeId(change), tenant, as_json=as_json, reveal=reveal)


@dead_letters.command(
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "Examples:",
        "  usher dead-letters retry 01a20c50-c195-73ee-9cae-9cf16b4822e3",
        "  usher dead-letters list --json | jq -r '.[].change' | xargs usher dead-letters retry",
    ),
)
@CHANGES
@TENANT
@click.option("--force", is_flag=True, help="Also where later changes concern the same resource.")
@JSON
def retry(chosen: tuple[uuid.UUID, ...], tenant: str | None, *, force: bool, as_json: bool) -> None:
    """Apply dead letters again, in the order in which they were accepted, and wait for each outcome.

    Each becomes a new change at the end of its tenant's stream. A letter goes when its content was applied;
    one that is refused or fails again is kept. One that would come after later changes to the same resource,
    and might undo them, needs --force.
    """
    from usher_core.operations import runs

    runs.retry_letters([ids.ChangeId(one) for one in chosen], tenant, force=force, as_json=as_json)


@dead_letters.command(
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "Example:",
        "  usher dead-letters discard 01a20c50-c195-73ee-9cae-9cf16b4822e3 --yes",
    ),
)
@CHANGES
@TENANT
@click.option("--yes", is_flag=True, help="Do not ask.")
def discard(chosen: tuple[uuid.UUID, ...], tenant: str | None, *, yes: bool) -> None:
    """Give dead letters up for good: what they hold is never applied.

    That it was discarded stands in the change log, with operation discard.
    """
    from usher_core.operations import runs

    runs.discard_letters([ids.ChangeId(one) for one in chosen], tenant, yes=yes)


@click.command(
    context_settings=EXAMPLES_AT,
    epilog=_listed(
        "DRAIN says who looks after a tenant's changes:",
        "  running   a worker applies them, or waits for more",
        "  queued    a worker will, as soon as one is free",
        "  lost      nobody; the sweep wakes a worker within seconds",
        "  idle      there is nothing to do",
    )
    + _listed(
        "Examples:",
        "  usher queue",
        "  usher queue --watch",
        "  usher queue --json | jq '.tenants[] | select(.oldestSeconds > 10)'",
    ),
)
@click.option("--watch", is_flag=True, help="Keep the table up to date, until Ctrl-C.")
@click.option(
    "--interval",
    type=click.FloatRange(min=0.2),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often, with --watch.",
)
@click.option("--all", "whole", is_flag=True, help="Tenants too that have nothing to show.")
@JSON
def queue(*, watch: bool, interval: float, whole: bool, as_json: bool) -> None:
    """Show how the queue stands: what waits, for how long, how fast it goes, and what was given up."""
    from usher_core.operations import runs

    runs.show_queue(watch=watch, interval=interval, whole=whole, as_json=as_json)
