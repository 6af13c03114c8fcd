"""A worker's port for the curious: /metrics of all its processes, /healthz and /readyz."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref import simple_server

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from usher_core import metrics
from usher_worker import sweeps

# A sweep that has not ticked for so long says that the process hangs.
SILENCE = 60.0


def serve(port: int, sweep: sweeps.Sweep, running: Callable[[], int]) -> None:
    """Serve it in a thread; `running` tells how many processes run that drain."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/metrics":
            start_response("200 OK", [("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)])
            return [metrics.expose()]
        silent, processes = time.monotonic() - sweep.ticked, running()
        well = {"/healthz": silent < SILENCE, "/readyz": silent < SILENCE and processes > 0}
        start_response(
            "200 OK" if well.get(environ["PATH_INFO"]) else "503 Service Unavailable",
            [("Content-Type", "application/json")],
        )
        return [json.dumps({"sweep_seconds_ago": round(silent, 1), "processes": processes}).encode()]

    class Quiet(simple_server.WSGIRequestHandler):
        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            """Keep access lines out of the log."""

    server = simple_server.make_server("0.0.0.0", port, app, handler_class=Quiet)  # noqa: S104 - a pod's port
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
