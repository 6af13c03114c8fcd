"""The subcommand `usher api`."""

from __future__ import annotations

import math

import click

from usher_core import errors


@click.command()
@click.option("--listen", default="127.0.0.1:8080", show_default=True, metavar="HOST:PORT")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1, 64))
def api(listen: str, processes: int) -> None:
    """Serve SCIM 2.0 over HTTP, with /healthz, /readyz and /metrics.

    Reads USHER_DATABASE_URL and USHER_REDIS_URL. Several processes share the port, and their metrics by the
    folder USHER_METRICS_DIR; when it is unset and --processes is above 1, by a temporary one.
    """
    from usher_core import logs, metric_folders, settings

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise errors.ConfigurationInvalid(f"--listen {listen}: write HOST:PORT, such as 0.0.0.0:8080")
    config = settings.load()
    logs.configure(config.log_level, process="api")
    with metric_folders.shared(config.metrics_dir, needed=processes > 1):
        _serve(host.strip("[]"), int(port), processes, grace=math.ceil(config.apply_wait) + 5)


def _serve(host: str, port: int, processes: int, *, grace: int) -> None:
    import uvicorn

    from usher_api import protocols

    uvicorn.run(
        "usher_api.applications:create",
        factory=True,
        host=host,
        port=port,
        workers=processes,
        http=protocols.ScimProtocol,
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # `proxies` reads them, and nothing else does
        timeout_keep_alive=75,
        timeout_graceful_shutdown=grace,
    )
