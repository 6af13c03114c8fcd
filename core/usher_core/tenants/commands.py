"""The subcommands `usher tokens list`, `usher tokens rotate` and `usher tokens revoke`."""

from __future__ import annotations

import click

TENANT = click.option(
    "--tenant", required=True, metavar="NAMESPACE/NAME", help="The ScimTenant, by namespace and name."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write JSON, for programs.")
CHOSEN = click.argument("chosen", metavar="TOKEN...", nargs=-1, required=True)


@click.group()
def tokens() -> None:
    """Look at the bearer tokens of a tenant, have one rotated, or revoke one at once.

    A TOKEN is a name, as in spec.tokens, or an id, as in the status and in logs. The token itself stands in
    its Secret alone and is never shown. Reads USHER_DATABASE_URL and USHER_REDIS_URL, as the api does.
    """


@tokens.command("list")
@TENANT
@JSON
def list_tokens(tenant: str, *, as_json: bool) -> None:
    """List every token of a tenant, by name, the one issued last first; revoked and expired ones too."""
    from usher_core.tenants import runs

    runs.list_tokens(tenant, as_json=as_json)


@tokens.command()
@TENANT
@CHOSEN
@JSON
def rotate(tenant: str, chosen: tuple[str, ...], *, as_json: bool) -> None:
    """Ask for a successor of current tokens.

    The operator issues it at its next look, within five minutes, and puts it into the Secret; `usher dev` at
    its next start. The token before works on for its overlap, and until the new one was seen in use.
    """
    from usher_core.tenants import runs

    runs.rotate_tokens(tenant, chosen, as_json=as_json)


@tokens.command()
@TENANT
@CHOSEN
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON
def revoke(tenant: str, chosen: tuple[str, ...], *, yes: bool, as_json: bool) -> None:
    """Revoke tokens at once: within a second every api process answers 401.

    A name means every living token of that name, the previous one too; an id means that one. As long as
    spec.tokens has the name, the operator issues another token at its next look, within five minutes.
    """
    from usher_core.tenants import runs

    runs.revoke_tokens(tenant, chosen, yes=yes, as_json=as_json)
