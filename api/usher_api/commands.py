"""The subcommand `usher api`."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from pathlib import Path

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
    from usher_core import logs, settings

    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit():
        raise errors.ConfigurationInvalid(f"--listen {listen}: write HOST:PORT, such as 0.0.0.0:8080")
    config = settings.load()
    logs.configure(config.log_level, process="api")
    with _metrics_folder(config.metrics_dir, processes) as folder:
        if folder is not None:
            # prometheus_client reads it when it is imported.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
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
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=grace,
    )


class _metrics_folder:  # noqa: N801 - reads as a function
    """An empty folder for the metrics of several processes; `None` for a single one without a setting."""

    def __init__(self, wanted: Path | None, processes: int) -> None:
        self._own: Path | None = None
        self._folder = wanted
        if wanted is None and processes > 1:
            self._own = self._folder = Path(tempfile.mkdtemp(prefix="usher-metrics-"))

    def __enter__(self) -> Path | None:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            for stale in self._folder.glob("*.db"):
                stale.unlink()
        return self._folder

    def __exit__(self, *_: object) -> None:
        if self._own is not None:
            shutil.rmtree(self._own, ignore_errors=True)
