"""Answers of a change whose client does not wait for it (`Prefer: respond-async`, RFC 9967 §2.5.1)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from usher_api import answers
from usher_core import ids


class AnsweredLater(Exception):
    """The change is accepted for good, and the client wants to know no more than that."""

    def __init__(self, change_id: ids.ChangeId, location: str | None) -> None:
        super().__init__(str(change_id))
        self.change_id = change_id
        self.location = location


def serving(endpoint: Callable[[Request], Coroutine[Any, Any, Response]]) -> ASGIApp:
    """Serve a handler that returns the response, or ends with `AnsweredLater`.

    Every other error is left to `middlewares.Envelope`; Starlette's own layers for them cost a twentieth of a
    request.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive, send)
        try:
            response = await endpoint(request)
        except AnsweredLater as later:
            # What becomes of the change is told by an event.
            headers = {"Set-Txn": str(later.change_id), "Preference-Applied": "respond-async"}
            if later.location is not None:
                headers["Location"] = later.location
            response = answers.answer(request, 202, headers=headers)
        await response(scope, receive, send)

    return serve
