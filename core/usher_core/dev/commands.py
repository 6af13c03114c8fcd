"""The subcommand `usher dev`: the whole service on this machine, with nothing to set up before."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--tenants",
    type=click.Path(exists=True, path_type=Path),
    default=Path("examples/acme.yaml"),
    show_default=True,
    help="ScimTenant manifests: a YAML file, or a folder of them.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8080",
    show_default=True,
    help="Where the api listens; port 0 takes a free one.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(".usher"),
    show_default=True,
    help="Folder of databases, passwords and issued tokens; a second run continues from it.",
)
@click.option("--workers", type=click.IntRange(min=1), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--ready-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that says, once all is ready, where everything is; as JSON, with the tokens.",
)
def dev(tenants: Path, listen: str, data: Path, workers: int, ready_file: Path | None) -> None:
    """Run PostgreSQL, Valkey, workers and api on this machine, with the tenants of the manifests.

    USHER_DATABASE_URL (with USHER_MIGRATE_DATABASE_URL) and USHER_REDIS_URL, where they are set, name
    servers to use instead of the embedded ones.
    """
    from usher_core import logs
    from usher_core.dev import addresses, outputs, runs

    logs.configure("info", process="dev")
    options = runs.Options(
        tenants=tenants.absolute(),
        listen=addresses.parse(listen),
        data=data.absolute(),
        workers=workers,
        ready_file=None if ready_file is None else ready_file.absolute(),
    )
    runs.Run(options, outputs.Output()).run()
