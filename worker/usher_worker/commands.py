"""The subcommand `usher worker`."""

from __future__ import annotations

import click


@click.command()
def worker() -> None:
    """Apply the queued changes to PostgreSQL, and sweep up after workers that died.

    Reads USHER_DATABASE_URL and USHER_REDIS_URL. Stops on SIGTERM when the batch at hand is committed.
    USHER_WORKER_METRICS_PORT serves /metrics and /healthz.
    """
    from usher_core import logs, settings
    from usher_worker import workers

    config = settings.load()
    logs.configure(config.log_level, process="worker")
    workers.run(config)
