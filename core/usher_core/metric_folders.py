"""The folder in which several processes of one service share their metrics.

`usher api` and `usher worker` make one before they import whatever counts: `prometheus_client` decides at its
import where values are kept. It keeps a file a process and kind; nobody else may use the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


@contextlib.contextmanager
def shared(wanted: Path | None, *, needed: bool) -> Iterator[Path | None]:
    """Share the folder that is wanted, emptied; or a temporary one, if one is needed and none wanted.

    Yields:
        The folder; `None` where the process keeps its metrics to itself.
    """
    if wanted is None and not needed:
        yield None
        return
    folder = wanted or Path(tempfile.mkdtemp(prefix="usher-metrics-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob("*.db"):
            stale.unlink()
        os.environ[VARIABLE] = str(folder)
        yield folder
    finally:
        if wanted is None:
            shutil.rmtree(folder, ignore_errors=True)


def take_place(number: int) -> None:
    """Keep this process's values under a number of its own instead of its process id.

    Whoever takes the same place later goes on with the values of the one before: however many processes
    come and go, the files stay as many, and no counter ever falls. Call it before anything that counts is
    imported; two processes that live at the same time have different numbers.
    """
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
