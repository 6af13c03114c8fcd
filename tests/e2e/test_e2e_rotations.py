"""All tokens are rotated at once, under load: who reads the Secrets in time or late is refused nothing.

A real api and worker serve the operator's store. The clients hold a token as an identity provider does, and
get another one only when a platform team's sync has read its Secret.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import httpx
import pytest
import scimtenants

from usher_core.testing import stacks

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

USER = "urn:ietf:params:scim:schemas:core:2.0:User"
OVERLAP = timedelta(seconds=30)
ENOUGH = 10  # requests that make a load
SYNCED_EVERY = 0.5  # seconds, and as long as reading all Secrets takes
PAUSE = 0.05  # seconds between two users of a client
PUNCTUAL = 15.0  # seconds, within which the first use of a token is seen and an end is kept


class Request(NamedTuple):
    """A request: when it was sent, with which token, and the status or the error that it ended with."""

    sent_at: float
    token_id: str
    end: int | str

    @property
    def failed(self) -> bool:
        return not (isinstance(self.end, int) and 200 <= self.end < 300)


@dataclasses.dataclass
class Client:
    """An identity provider of one tenant, with the token that it was given last."""

    tenant: str
    base_url: str
    token: str = dataclasses.field(repr=False)
    requests: list[Request] = dataclasses.field(default_factory=list, repr=False)
    is_synced: bool = True
    """Whether the platform team's sync looks after it."""

    def run(self, is_over: threading.Event) -> None:
        """Make one user after another, read and change it, until it is over."""
        with httpx.Client(timeout=40) as http:
            while not is_over.wait(PAUSE):
                name = f"{secrets.token_hex(8)}@a.io"
                made = self._send(http, "POST", "/Users", {"schemas": [USER], "userName": name})
                if made is not None:
                    self._send(http, "GET", f"/Users/{made['id']}")
                    changed = {"schemas": [USER], "userName": name, "displayName": "Another"}
                    self._send(http, "PUT", f"/Users/{made['id']}", changed)

    def since(self, moment: float) -> list[Request]:
        """List the requests that were sent since then."""
        return [it for it in self.requests if it.sent_at >= moment]

    def with_token(self, token_id: str) -> list[Request]:
        """List the requests that were sent with a token."""
        return [it for it in self.requests if it.token_id == token_id]

    def _send(
        self, http: httpx.Client, method: str, path: str, body: dict[str, Any] | None = None
    ) -> dict[str, Any] | None:
        sent_at, token = time.monotonic(), self.token
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/scim+json"}
        try:
            answer = http.request(method, f"{self.base_url}{path}", headers=headers, json=body)
        except httpx.HTTPError as exc:
            self.requests.append(Request(sent_at, id_of(token), repr(exc)))
            return None
        request = Request(sent_at, id_of(token), answer.status_code)
        self.requests.append(request)
        found: dict[str, Any] | None = None if request.failed else answer.json()
        return found


def id_of(token: str) -> str:
    return token.split("_")[1]


def tenant(namespace: str, name: str) -> dict[str, Any]:
    token = {
        "name": "okta",
        "ttl": "2h",
        "renewBefore": "1h",
        "overlap": f"{OVERLAP.seconds}s",
        "secretRef": {"name": f"{name}-okta"},
    }
    return scimtenants.manifest(namespace, name, token)


def shown(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """Return the token that each tenant's status shows."""
    found = json.loads(cluster.kubectl("get", "scimtenants", "-n", namespace, "-o", "json"))
    return {it["metadata"]["name"]: it["status"]["tokens"][0] for it in found["items"]}


def is_accepted(base_url: str, token: str) -> bool:
    answer = httpx.get(f"{base_url}/Users", headers={"Authorization": f"Bearer {token}"}, timeout=40)
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


@contextlib.contextmanager
def load(clients: Sequence[Client], read: Callable[[str], str]) -> Iterator[None]:
    """Have all clients at work, and the sync that `read`s a tenant's Secret, while the block runs."""
    is_over = threading.Event()

    def sync() -> None:
        while not is_over.wait(SYNCED_EVERY):
            for client in clients:
                if client.is_synced:
                    client.token = read(client.tenant)

    with ThreadPoolExecutor(len(clients) + 1) as threads:
        running = [threads.submit(client.run, is_over) for client in clients]
        running.append(threads.submit(sync))
        try:
            yield
        finally:
            is_over.set()
    for one in running:
        one.result()


def refused_at(base_url: str, token: str, patience: float) -> datetime:
    """Ask again and again until a token is refused, and tell when that was."""
    deadline = time.monotonic() + patience
    while is_accepted(base_url, token):
        assert time.monotonic() < deadline, f"{id_of(token)} still works"
        time.sleep(0.5)
    return datetime.now(UTC)


@pytest.mark.parametrize("count", [3, pytest.param(20, marks=pytest.mark.full)])
def test_a_rotation_of_all_under_load_fails_no_request_and_old_tokens_end_in_their_time(
    cluster: Cluster, operator: Release, namespace: str, stack: stacks.Stack, count: int
) -> None:
    names = [f"tenant-{number}" for number in range(count)]
    cluster.apply([tenant(namespace, name) for name in names])
    scimtenants.wait(cluster, namespace)

    def read(name: str) -> str:
        return scimtenants.token(cluster, namespace, f"{name}-okta")

    old = {name: read(name) for name in names}

    def are_rotated() -> bool:
        ids = {name: (it["id"], it.get("previous", {}).get("id")) for name, it in tokens().items()}
        return ids == {name: (id_of(read(name)), id_of(old[name])) for name in names}

    def tokens() -> dict[str, dict[str, Any]]:
        return shown(cluster, namespace)

    clients = [Client(name, stack.base_url, old[name]) for name in names]
    late, *others = clients
    late.is_synced = False
    with load(clients, read):
        cluster.until(lambda: all(len(it.requests) >= ENOUGH for it in clients), "a load")
        asked_at = time.monotonic()
        cluster.kubectl("annotate", "scimtenants", "--all", "-n", namespace, "usher.dev/rotate=okta")
        cluster.until(are_rotated, "each status shows both tokens, each Secret has the new one")
        new = tokens()
        ends = {name: datetime.fromisoformat(it["issuedAt"]) + OVERLAP for name, it in new.items()}

        def use_new(those: Sequence[Client]) -> bool:
            return all(len(it.with_token(new[it.tenant]["id"])) >= ENOUGH for it in those)

        cluster.until(lambda: use_new(others), "the clients use the new tokens")
        with ThreadPoolExecutor(count) as threads:
            patience = (max(ends.values()) - datetime.now(UTC)).total_seconds() + PUNCTUAL
            ended = threads.map(lambda it: refused_at(stack.base_url, old[it.tenant], patience), others)
        assert [it.tenant for it, end in zip(others, ended, strict=True) if end < ends[it.tenant]] == []
        # Whoever has not read the new one yet goes on with the old one, for as long as it takes.
        over_at = time.monotonic()
        cluster.until(lambda: len(late.since(over_at)) >= ENOUGH, "the late one goes on")
        assert not late.with_token(new[late.tenant]["id"])
        late.is_synced = True
        cluster.until(lambda: use_new([late]), "the late one uses its new token")
        refused_at(stack.base_url, old[late.tenant], 30)
        cluster.until(lambda: all("previous" not in it for it in tokens().values()), "nothing overlaps")
    assert [it for client in clients for it in client.requests if it.failed] == []
    for client in clients:
        before, after = id_of(old[client.tenant]), new[client.tenant]["id"]
        assert {it.token_id for it in client.requests} == {before, after}
        assert any(it.token_id == before for it in client.since(asked_at))
    reasons = cluster.kubectl("get", "events", "-n", namespace, "-o", "jsonpath={.items[*].reason}").split()
    assert reasons.count("TokenRotated") == count
