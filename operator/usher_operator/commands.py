"""The subcommand `usher operator`."""

from __future__ import annotations

import click


class _Name(click.types.StringParamType):
    """A name, of which a variable may hold several with commas between them."""

    envvar_list_splitter = ","


@click.command()
@click.option(
    "--namespace",
    "namespaces",
    type=_Name(),
    multiple=True,
    metavar="NAME",
    envvar="USHER_WATCH_NAMESPACES",
    show_envvar=True,
    help="Serve the tenants of this namespace; may be given several times (in the variable: with commas).",
)
@click.option("--all-namespaces", is_flag=True, help="Serve every namespace; so it is without --namespace.")
@click.option(
    "--liveness",
    "liveness_port",
    metavar="PORT",
    type=click.IntRange(1, 65535),
    default=8081,
    show_default=True,
    help="Port of /healthz, which tells the seconds since the last event of the watch.",
)
@click.option(
    "--database-url",
    metavar="URL",
    envvar="USHER_DATABASE_URL",
    show_envvar=True,
    required=True,
    help="PostgreSQL as the role usher_app, postgresql://…",
)
@click.option(
    "--public-url",
    metavar="URL",
    envvar="USHER_PUBLIC_URL",
    show_envvar=True,
    help="Scheme and host under which clients reach the api, for tenants without a host of their own.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    envvar="USHER_LOG_LEVEL",
    show_envvar=True,
    default="info",
    show_default=True,
)
def operator(
    namespaces: tuple[str, ...],
    all_namespaces: bool,
    liveness_port: int,
    database_url: str,
    public_url: str | None,
    log_level: str,
) -> None:
    """Bring ScimTenants of a Kubernetes cluster into the store, and their tokens into Secrets.

    Needs the CustomResourceDefinition scimtenants.usher.dev, and a service account or KUBECONFIG. Run one
    operator at a time. What changed in a Secret or ConfigMap is noticed within five minutes.
    """
    from usher_core import logs
    from usher_operator import processes

    if namespaces and all_namespaces:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    logs.configure(log_level, process="operator")
    processes.run(processes.Options(database_url, public_url, namespaces, liveness_port))
