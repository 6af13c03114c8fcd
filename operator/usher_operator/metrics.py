"""What the operator measures, of itself and of each tenant, and the port where it shows it.

Who does something notes it here, `processes` serves. Invariant: a tenant that is gone, or has nothing to
tell, has no series.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime

import prometheus_client

SSO_ENDS = prometheus_client.Gauge(
    "usher_sso_ends_timestamp_seconds",
    "When the first signing certificate of a tenant's SAML metadata ends, or the metadata themselves.",
    ["namespace", "tenant"],
)

LEADS = prometheus_client.Gauge("usher_operator_leads", "1 while this operator is the one at work.")
LOOKS = prometheus_client.Counter(
    "usher_operator_looks", "Looks at tenants by how they ended: done, or why they are repeated.", ["end"]
)
LOOK_SECONDS = prometheus_client.Histogram(
    "usher_operator_look_seconds",
    "Time of one look at a tenant.",
    buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
WAITING = prometheus_client.Gauge("usher_operator_due_tenants", "Tenants that are due for a look and wait.")
TENANTS = prometheus_client.Gauge("usher_operator_tenants", "Tenants that the operator knows of.")
TOKENS = prometheus_client.Counter(
    "usher_operator_tokens", "What was done to tokens: TokenIssued, TokenRotated, TokenRevoked.", ["reason"]
)
STATUSES = prometheus_client.Counter("usher_operator_status_writes", "Statuses that were written.")
REFUSED = prometheus_client.Counter(
    "usher_operator_refused_requests", "Failed requests to the API server, by its answer.", ["status"]
)
AWAY = prometheus_client.Counter(
    "usher_operator_unavailable", "Times that PostgreSQL or Valkey could not be asked.", ["backend"]
)


def note_sso(namespace: str, tenant: str, ends_at: datetime | None) -> None:
    """Note when what a tenant's users sign in by ends; `None` for nothing, or for a tenant that is gone."""
    if ends_at is not None:
        SSO_ENDS.labels(namespace, tenant).set(ends_at.timestamp())
    else:
        SSO_ENDS.remove(namespace, tenant)


@contextlib.contextmanager
def served(port: int) -> Iterator[None]:
    """Serve /metrics in a thread while the block runs; port 0 serves none."""
    if not port:
        yield
        return
    server, thread = prometheus_client.start_http_server(port)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
