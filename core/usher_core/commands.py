"""The command `usher`: it finds the subcommands of the installed parts and runs one.

Each part registers its subcommand as an entry point of the group `usher.commands`, so that the core
knows none of the services. Their command modules import heavy libraries only when they run.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points

import click

from usher_core import __version__, errors


class Parts(click.Group):
    """A command group whose subcommands are the entry points of the installed parts."""

    def _entries(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group="usher.commands")}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every subcommand, in alphabetical order."""
        return sorted(self._entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load one subcommand; `None` when there is none of that name."""
        entry = self._entries().get(cmd_name)
        if entry is None:
            return None
        command = entry.load()
        assert isinstance(command, click.Command)  # noqa: S101 - a packaging mistake of ours
        return command


@click.command(cls=Parts, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="usher")
def usher() -> None:
    """Serve SCIM 2.0: identity providers push users and groups, Usher keeps the directory in step."""


def main() -> None:
    """Run the command line; a known error is told in one line and ends with 1, a lost backend with 2."""
    try:
        usher(prog_name="usher")
    except (errors.StoreUnavailable, errors.QueueUnavailable) as exc:
        click.echo(f"usher: {exc}", err=True)
        sys.exit(2)
    except errors.UsherError as exc:
        click.echo(f"usher: {exc}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
