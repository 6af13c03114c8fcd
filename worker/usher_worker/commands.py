"""The subcommand `usher worker`."""

from __future__ import annotations

import click


@click.command()
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="Processes that drain, each one tenant at a time. Default is USHER_WORKER_PROCESSES, or 1.",
)
def worker(processes: int | None) -> None:
    """Apply the queued changes to PostgreSQL, and sweep up after workers that died.

    Reads USHER_DATABASE_URL and USHER_REDIS_URL. Stops on SIGTERM when the batches at hand are committed.
    USHER_WORKER_METRICS_PORT serves /metrics, /healthz and /readyz. Several processes are kept by one more,
    their parent; so is a single one that is replaced after USHER_WORKER_MAX_JOBS drains or beyond
    USHER_WORKER_MAX_MEGABYTES.
    """
    from usher_core import logs, metric_folders, settings
    from usher_worker import limits

    config = settings.load()
    if processes is not None:
        config = config.model_copy(update={"worker_processes": processes})
    logs.configure(config.log_level, process="worker")
    if config.worker_processes == 1 and not limits.is_limited(config):
        from usher_worker import workers

        workers.run(config)
        return
    # A folder of its own: that of an api on the same machine is emptied when it starts.
    wanted = config.metrics_dir and config.metrics_dir / "worker"
    with metric_folders.shared(wanted, needed=True):
        metric_folders.take_place(0)
        from usher_worker import parents

        parents.Parent(config).run()
