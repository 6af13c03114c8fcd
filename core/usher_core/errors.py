"""Every error of Usher, in one tree; protocol errors know their HTTP status and SCIM type.

UsherError
├── ScimError                      an answer of the protocol: status, scimType, detail (RFC 7644 §3.12)
│   ├── ExpiredCursor              400 expiredCursor (RFC 9865)
│   ├── InvalidCount               400 invalidCount (RFC 9865)
│   ├── InvalidCursor              400 invalidCursor (RFC 9865)
│   ├── InvalidFilter              400 invalidFilter
│   ├── InvalidPath                400 invalidPath
│   ├── InvalidSyntax              400 invalidSyntax
│   ├── InvalidValue               400 invalidValue
│   ├── InvalidVersion             400 invalidVers
│   ├── MutabilityViolated         400 mutability
│   ├── NoTarget                   400 noTarget
│   ├── TooMany                    400 tooMany
│   ├── Unauthenticated            401
│   ├── Forbidden                  403
│   ├── NotFound                   404
│   ├── MethodNotAllowed           405
│   ├── UniquenessViolated         409 uniqueness
│   ├── PreconditionFailed         412
│   ├── PayloadTooLarge            413
│   ├── UnsupportedMediaType       415
│   ├── TooManyRequests            429  with Retry-After
│   ├── ChangeFailed               500  the change became a dead letter
│   ├── NotImplementedYet          501
│   └── Unavailable                503  with Retry-After
├── StoreUnavailable               PostgreSQL can't be reached, or gave up for a reason of its own: try again
│   └── StoreTimedOut              a statement took too long
├── QueueUnavailable               Valkey or Redis can't be reached: try again
│   └── QueueFull                  it has no memory left for what was asked
├── DrainSuperseded                a younger drain of the tenant has taken over: stop, commit nothing
├── OperatorSuperseded             another operator has taken over: leave the process, write nothing
├── TenantGone                     the tenant was deleted: its pending changes have nobody to take effect for
├── ManifestInvalid                a ScimTenant that can't be read
└── ConfigurationInvalid           settings, command line or surroundings that can't work; says what to do
"""

from __future__ import annotations

from typing import ClassVar


class UsherError(Exception):
    """Base of all errors that Usher raises on purpose."""


class ScimError(UsherError):
    """An error of the protocol, answered to the client as a SCIM error (RFC 7644 §3.12).

    `detail` is shown to the client: it names the attribute concerned and quotes no secret.
    """

    status: ClassVar[int] = 400
    scim_type: ClassVar[str | None] = None

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class ExpiredCursor(ScimError):
    """The cursor was good once; its time is over."""

    scim_type = "expiredCursor"


class InvalidCount(ScimError):
    """The size of the page is no number that a page can have."""

    scim_type = "invalidCount"


class InvalidCursor(ScimError):
    """The cursor was not made by this service, or not for this tenant and query."""

    scim_type = "invalidCursor"


class InvalidFilter(ScimError):
    """The filter breaks the grammar, names no known attribute, or compares what can't be compared."""

    scim_type = "invalidFilter"


class InvalidPath(ScimError):
    """The `path` of a PATCH operation is malformed or names no known attribute."""

    scim_type = "invalidPath"


class InvalidSyntax(ScimError):
    """The body is no JSON, or not of the message's form."""

    scim_type = "invalidSyntax"


class InvalidValue(ScimError):
    """A value is missing, of the wrong type, or contradicts the schema."""

    scim_type = "invalidValue"


class InvalidVersion(ScimError):
    """The client speaks another version of SCIM."""

    scim_type = "invalidVers"


class MutabilityViolated(ScimError):
    """The operation would change what may not be changed."""

    scim_type = "mutability"


class NoTarget(ScimError):
    """The `path` of a PATCH operation matched nothing that could be operated on."""

    scim_type = "noTarget"


class TooMany(ScimError):
    """The answer would be larger than the service is willing to compute."""

    scim_type = "tooMany"


class Unauthenticated(ScimError):
    """No valid bearer token came with the request."""

    status = 401


class Forbidden(ScimError):
    """The token is valid, but what it asks for is not allowed."""

    status = 403


class NotFound(ScimError):
    """There is no such resource or endpoint."""

    status = 404


class MethodNotAllowed(ScimError):
    """The endpoint is there, but not for this method; `allowed` names those that it has."""

    status = 405

    def __init__(self, detail: str, *, allowed: str = "GET") -> None:
        super().__init__(detail)
        self.allowed = allowed


class UniquenessViolated(ScimError):
    """Another living resource holds the value."""

    status = 409
    scim_type = "uniqueness"


class PreconditionFailed(ScimError):
    """The resource is not at the version that the client asked for (RFC 7644 §3.14)."""

    status = 412


class PayloadTooLarge(ScimError):
    """The body is larger than the limit."""

    status = 413


class UnsupportedMediaType(ScimError):
    """The body is of a media type that this service does not read (RFC 9110 §15.5.16)."""

    status = 415


class ChangeFailed(ScimError):
    """The change could not be applied for a fault of ours; it is kept as a dead letter."""

    status = 500


class NotImplementedYet(ScimError):
    """The protocol has it, this service does not."""

    status = 501


class TooManyRequests(ScimError):
    """The tenant asks for more than it may; the client should try again in `retry_after` whole seconds."""

    status = 429

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class Unavailable(ScimError):
    """The service can't answer now; the client should try again in `retry_after` whole seconds."""

    status = 503

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


class StoreUnavailable(UsherError):
    """PostgreSQL is away or refused for a passing reason; the same work may succeed later."""


class StoreTimedOut(StoreUnavailable):
    """PostgreSQL gave a statement up because it took too long; it may be the statement's own fault."""


class QueueUnavailable(UsherError):
    """Valkey or Redis is away or full; the same work may succeed later."""


class QueueFull(QueueUnavailable):
    """Valkey or Redis has no memory left for the command; what only reads or removes still works."""


class DrainSuperseded(UsherError):
    """A younger drain of the same tenant holds a higher epoch; this one must commit nothing more."""


class OperatorSuperseded(UsherError):
    """Another operator has begun its term; this one must write nothing more."""


class TenantGone(UsherError):
    """The tenant was deleted, or never was: nothing can be applied for it."""


class ManifestInvalid(UsherError):
    """A manifest that is no valid ScimTenant; the message names the field."""


class ConfigurationInvalid(UsherError):
    """The process can't start or go on as configured; the message says what to do."""
