"""What stands in a Secret stands nowhere else: no store, log, event, metric or annotation has it."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import holdings
import scimtenants
from click.testing import CliRunner

from usher_core.embedded.databases import DatabaseUrls
from usher_core.tenants import commands
from usher_core.testing import identity_providers, servers, stacks

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

TOKEN = re.compile(rb"usher_[0-9a-z]{16}_[0-9A-Za-z]{43}_[0-9a-f]{8}")


def documents(namespace: str, canary: str) -> list[dict[str, Any]]:
    """Make a tenant and its metadata, which hold the canary."""
    metadata = {"namespace": namespace}
    document = identity_providers.metadata().replace(identity_providers.ENTITY_ID, f"https://{canary}/")
    return [
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**metadata, "name": "saml"},
            "stringData": {"metadata.xml": document},
        },
        {
            "apiVersion": "usher.dev/v1alpha1",
            "kind": "ScimTenant",
            "metadata": {**metadata, "name": "acme"},
            "spec": {
                "tokens": [{"name": "okta", "secretRef": {"name": "acme-scim-okta"}}],
                "sso": {"saml": {"metadataSecretRef": {"name": "saml"}}},
            },
        },
    ]


def ask(url: str, token: str, body: dict[str, Any] | None = None) -> int:
    """Send a request as an identity provider would; returns the status."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/scim+json"}
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as refused:
        refused.close()
        return refused.code


def provision(base_url: str, token: str) -> None:
    """Read, write, ask for what is refused, and come with tokens that don't work."""
    user = {
        "schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"],
        "userName": f"{secrets.token_hex(4)}@a.io",
    }
    assert ask(f"{base_url}/Users", token) == 200
    assert ask(f"{base_url}/Users", token, user) == 201
    assert ask(f"{base_url}/Users", token, {**user, "displayName": "Another"}) == 409
    assert ask(f"{base_url}/Users?filter=nonsense", token) == 400
    assert ask(f"{base_url}/Nothing", token) == 404
    changed = token[:-20] + ("a" if token[-20] != "a" else "b") + token[-19:]
    assert ask(f"{base_url}/Users", changed) == 401


def is_ready(cluster: Cluster, namespace: str) -> bool:
    tenant = cluster.get(namespace, "scimtenant", "acme")
    assert tenant is not None
    return any((it["type"], it["status"]) == ("Ready", "True") for it in tenant["status"]["conditions"])


def nudge(cluster: Cluster, namespace: str) -> None:
    """Have the operator look at the tenant now."""
    cluster.kubectl(
        "label", "scimtenant", "acme", "-n", namespace, "--overwrite", f"nudged={secrets.token_hex(4)}"
    )


def tokens(urls: DatabaseUrls, redis_url: str, *words: str) -> str:
    """Run `usher tokens`; returns all that it says."""
    runner = CliRunner(env={"USHER_DATABASE_URL": urls.app, "USHER_REDIS_URL": redis_url})
    run = runner.invoke(commands.tokens, words)
    assert run.exit_code == 0, run.output
    return run.output


def metrics_of(*ports: int) -> Iterator[holdings.Piece]:
    for port in ports:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
            yield holdings.Piece(f"metrics of {port}", answer.read())


def found_in(pieces: Iterable[holdings.Piece], canaries: Iterable[str]) -> set[str]:
    """Name the places that hold a canary in any form, or any token at all."""
    return {piece.place for piece in pieces if TOKEN.search(piece.content) or is_in(canaries, piece.content)}


def is_in(canaries: Iterable[str], content: bytes) -> bool:
    return any(form in content for canary in canaries for form in holdings.forms_of(canary))


def test_what_a_secret_holds_stands_nowhere_else(
    cluster: Cluster,
    operator: Release,
    namespace: str,
    running: servers.Servers,
    database_urls: DatabaseUrls,
    tmp_path: Path,
) -> None:
    canary = f"canary-{secrets.token_hex(16)}"
    store, of_acme = (database_urls, running.redis_url), ("--tenant", f"{namespace}/acme")
    said: list[str] = []

    def handed_over() -> str:
        return scimtenants.token(cluster, namespace, scimtenants.EXAMPLE_SECRET)

    port = stacks.free_port()
    env = {"USHER_LOG_LEVEL": "debug", "USHER_WORKER_METRICS_PORT": str(port)}
    with (
        holdings.commands_of(running.redis_url) as sent,
        stacks.Stack(database_urls.app, running.redis_url, tmp_path, env) as stack,
    ):
        cluster.apply(documents(namespace, canary))
        scimtenants.wait(cluster, namespace, "acme")
        first = handed_over()
        provision(stack.base_url, first)
        said.append(tokens(*store, "rotate", *of_acme, "okta"))
        nudge(cluster, namespace)
        second = cluster.until(lambda: (text := handed_over()) != first and text, "another token")
        provision(stack.base_url, str(second))
        # Now each attempt to hand a third one over is refused, and the API server may quote what it refuses.
        frozen = ["--type=merge", '--patch={"immutable":true}']
        cluster.kubectl("patch", "secret", "acme-scim-okta", "-n", namespace, *frozen)
        said.append(tokens(*store, "rotate", *of_acme, "okta"))
        nudge(cluster, namespace)
        cluster.until(lambda: not is_ready(cluster, namespace), "word of the refusal")
        # Metadata that are wrong are told of, and not quoted.
        wrong = documents(namespace, canary)[0]
        wrong["stringData"]["metadata.xml"] += f"<{canary}"
        cluster.apply([wrong])
        nudge(cluster, namespace)
        said.append(tokens(*store, "list", *of_acme))
        shown = (["describe", "scimtenant,secret"], ["get", "events", "-o", "json"])
        said += [cluster.kubectl(*words, "-n", namespace) for words in shown]
        pieces = [*metrics_of(stack.port, port, operator.metrics_port)]
    canaries = [canary, first, str(second), *(text.split("_")[2] for text in (first, str(second)))]
    pieces += [holdings.Piece("what commands said", text.encode()) for text in said]
    name = database_urls.owner.rpartition("/")[2]
    dump = holdings.in_postgres(f"{database_urls.admin.rpartition('/')[0]}/{name}")
    pieces += [*sent, *holdings.in_valkey(running.redis_url), dump]
    pieces += holdings.in_files(tmp_path)
    pieces += holdings.in_files(running.postgres.data)
    pieces += holdings.in_files(running.valkey.data)
    etcd_files = cluster.folder.glob("controlplane/etcd-*")
    pieces += holdings.in_files(cluster.folder, etcd_files)
    assert found_in(pieces, canaries) == set()
    secret = cluster.get(namespace, "secret", "acme-scim-okta")
    assert secret is not None
    assert found_in([holdings.Piece("metadata", json.dumps(secret["metadata"]).encode())], canaries) == set()
    digests = [hashlib.sha256(text.encode()) for text in (first, str(second))]
    for digest in digests:
        assert dump.content.count(digest.hexdigest().encode()) == 1
    elsewhere = [it for it in pieces if not it.place.startswith(("PostgreSQL", str(running.postgres.data)))]
    assert found_in(elsewhere, [digest.hexdigest() for digest in digests]) == set()
    assert [it.place for it in elsewhere if any(digest.digest() in it.content for digest in digests)] == []
    if cluster.etcd is not None:
        held = list(holdings.in_etcd(cluster.etcd))
        ours = {f"etcd: /registry/secrets/{namespace}/{name}" for name in ("acme-scim-okta", "saml")}
        others = [it for it in held if not it.place.startswith("etcd: /registry/secrets/")]
        assert {it.place for it in held if is_in(canaries, it.content)} == ours
        assert found_in(others, [digest.hexdigest() for digest in digests]) == set()
