"""One process of a worker that has several: `python -m usher_worker.children NUMBER`; `parents` starts it.

It drains until its parent tells it to stop, until a limit is reached, or until its parent is gone: then it
finishes the batch at hand like at a SIGTERM. Its standard input is a pipe that the parent holds; however the
parent dies, the kernel closes it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

from usher_core import logs, metric_folders, settings

_STDIN = 0


def main() -> None:
    """Run the command line."""
    number = int(sys.argv[1])
    # Before what counts is imported.
    metric_folders.take_place(number)
    from usher_worker import processes, workers

    config = settings.load()
    logs.configure(config.log_level, process=f"worker-{number}")
    watch = threading.Thread(target=_end_with_parent, args=(config.drain_lifetime,), daemon=True)
    watch.start()
    workers.work(processes.Process(config))


def _end_with_parent(grace: float) -> None:
    while os.read(_STDIN, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(grace)
    os._exit(1)


if __name__ == "__main__":
    main()
