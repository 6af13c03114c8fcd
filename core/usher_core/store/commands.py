"""The subcommand `usher migrate`."""

from __future__ import annotations

import os

import click

from usher_core import errors


@click.command()
def migrate() -> None:
    """Bring the schema of PostgreSQL to what this version needs.

    Logs in with USHER_MIGRATE_DATABASE_URL as usher_owner, or as a role that may act as usher_owner; the
    roles usher_owner and usher_app are made where they are missing and the login may create roles.
    """
    from usher_core.store import migrations

    url = os.environ.get("USHER_MIGRATE_DATABASE_URL") or os.environ.get("USHER_DATABASE_URL")
    if not url:
        raise errors.ConfigurationInvalid("set USHER_MIGRATE_DATABASE_URL to PostgreSQL as usher_owner")
    click.echo(f"The schema is at revision {migrations.upgrade(url)}.")
