"""The subcommand `usher operator`."""

from __future__ import annotations

import click


class _Name(click.types.StringParamType):
    """A name, of which a variable may hold several with commas between them."""

    envvar_list_splitter = ","


class _Lease(click.ParamType["tuple[str, str]"]):
    """A namespace and a name."""

    name = "lease"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        namespace, slash, name = str(value).partition("/")
        if not (namespace and slash and name):
            self.fail("must be NAMESPACE/NAME", param, ctx)
        return namespace, name


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
    "--metrics",
    "metrics_port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    envvar="USHER_OPERATOR_METRICS_PORT",
    show_envvar=True,
    default=0,
    show_default=True,
    help="Port of /metrics; 0 serves none.",
)
@click.option(
    "--lease",
    type=_Lease(),
    metavar="NAMESPACE/NAME",
    envvar="USHER_OPERATOR_LEASE",
    show_envvar=True,
    help="Lease that tells which of several operators works; the others stand by.",
)
@click.option(
    "--watch-secrets/--no-watch-secrets",
    envvar="USHER_WATCH_SECRETS",
    show_envvar=True,
    help="Watch Secrets and ConfigMaps with the label usher.dev/tenant, to notice changes at once.",
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
    "--redis-url",
    metavar="URL",
    envvar="USHER_REDIS_URL",
    show_envvar=True,
    help="Valkey or Redis, to count pending changes, and to have tenants' own schemas checked at once.",
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
    metrics_port: int,
    lease: tuple[str, str] | None,
    watch_secrets: bool,
    database_url: str,
    redis_url: str | None,
    public_url: str | None,
    log_level: str,
) -> None:
    """Bring ScimTenants of a Kubernetes cluster into the store, and their tokens into Secrets.

    Needs the CustomResourceDefinition scimtenants.usher.dev, and a service account or KUBECONFIG. Several
    operators of one database need a lease: without one the last to start works, and the others leave. What
    changed in a Secret or ConfigMap is noticed within five minutes (within twenty in metadata or schemas,
    where more than 500 tenants have their own), or at once with --watch-secrets.
    """
    from usher_core import logs
    from usher_operator import processes

    if namespaces and all_namespaces:
        raise click.UsageError("--namespace and --all-namespaces exclude each other")
    logs.configure(log_level, process="operator")
    options = processes.Options(
        database_url,
        public_url,
        namespaces,
        liveness_port,
        redis_url,
        metrics_port=metrics_port,
        lease=lease,
        watch_sources=watch_secrets,
    )
    processes.run(options)
