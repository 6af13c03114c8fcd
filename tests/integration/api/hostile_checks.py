"""What Schemathesis can't read in the document, and each answer must obey all the same."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.check
def scim_error(_context: Any, response: Any, case: Any) -> None:
    """Every error is a SCIM error that tells its own status, in words (RFC 7644 §3.12)."""
    if response.status_code >= 400:
        (media_type,) = response.headers["content-type"]
        wanted = (case.headers or {}).get("Accept", "application/scim+json")
        assert media_type in ("application/scim+json", wanted), f"an error of type {media_type}"
        told = response.json()
        assert told["status"] == str(response.status_code), "a status that is not that of the answer"
        assert told["detail"], "an error without words"


@schemathesis.check
def request_id(_context: Any, response: Any, _case: Any) -> None:
    """Every answer names its request."""
    assert response.headers["x-request-id"]
