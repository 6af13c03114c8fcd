"""The signing certificates of an identity provider: read, and judged by the clock.

Called by `saml_metadata`. Providers publish the next certificate beside the one in use, so a tenant is well
as long as one of them is valid. Invariant: no message quotes anything but the moments of a certificate.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal, TypeAlias

from cryptography import x509

SOON = timedelta(days=30)
"""What ends within this time is told."""

Reason: TypeAlias = Literal["CertificateExpired", "CertificateNotYetValid", "CertificateEndsSoon"]


class Unreadable(ValueError):
    """The text is no certificate; the message never quotes it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Period:
    """From when until when a certificate is valid, both included."""

    begins_at: datetime
    ends_at: datetime


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What the clock says of all certificates; no `reason` where there is nothing to do."""

    reason: Reason | None
    message: str
    ends_at: datetime
    """When the first of those that are valid ends, or the last of all has ended."""

    @property
    def valid(self) -> bool:
        """True while a certificate is valid."""
        return self.reason in (None, "CertificateEndsSoon")


def read(text: str) -> Period:
    """Read a certificate as metadata hold it: base64 of DER, with white space anywhere.

    Raises:
        Unreadable: it is none.
    """
    try:
        der = base64.b64decode("".join(text.split()), validate=True)
        certificate = x509.load_der_x509_certificate(der)
        period = Period(certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except (binascii.Error, ValueError, x509.InvalidVersion) as exc:
        raise Unreadable("not the base64 of an X.509 certificate") from exc
    if period.ends_at < period.begins_at:
        raise Unreadable("an X.509 certificate that ends before it begins")
    return period


def judge(periods: Collection[Period], now: datetime) -> Finding:
    """Judge the certificates, of which there is at least one."""
    alive = [period for period in periods if period.begins_at <= now <= period.ends_at]
    if not alive:
        return _none_alive(periods, now)
    first, last = min(period.ends_at for period in alive), _covered(alive, periods)
    if last - now <= SOON:
        return Finding("CertificateEndsSoon", f"{_which(periods)} ends at {told(last)}: replace it", first)
    if first - now <= SOON:
        message = f"a signing certificate ends at {told(first)}, others are valid until {told(last)}"
        return Finding(None, message, first)
    return Finding(None, f"{_which(periods)} ends at {told(last)}", first)


def told(moment: datetime) -> str:
    """Write a moment for a person, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _none_alive(periods: Collection[Period], now: datetime) -> Finding:
    last = max(period.ends_at for period in periods)
    coming = [period.begins_at for period in periods if period.begins_at > now]
    if coming:
        return Finding(
            "CertificateNotYetValid", f"no signing certificate is valid before {told(min(coming))}", last
        )
    return Finding("CertificateExpired", f"{_which(periods)} ended at {told(last)}", last)


def _covered(alive: Sequence[Period], periods: Collection[Period]) -> datetime:
    """Tell until when one certificate or another is valid, without a gap."""
    until = max(period.ends_at for period in alive)
    for period in sorted(periods, key=lambda one: one.begins_at):
        if period.begins_at <= until:
            until = max(until, period.ends_at)
    return until


def _which(periods: Collection[Period]) -> str:
    return "the signing certificate" if len(periods) == 1 else "the last signing certificate"
