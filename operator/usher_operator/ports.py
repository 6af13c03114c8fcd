"""The operator's port for the kubelet: /healthz, at work and standing by alike.

It answers from the event loop that does the work, so an operator that hangs does not answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web


@contextlib.asynccontextmanager
async def served(port: int, health: Callable[[], dict[str, Any]]) -> AsyncIterator[None]:
    """Serve /healthz with what `health` tells, while the block runs."""

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response(health())

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "0.0.0.0", port).start()  # noqa: S104 - a pod's port
        yield
    finally:
        await runner.cleanup()
