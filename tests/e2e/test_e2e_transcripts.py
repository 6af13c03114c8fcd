"""What docs/operator.md shows is what a platform team gets to see.

USHER_UPDATE_DOCS=1 writes the answers of this run into the document, in place of comparing them.
"""

from __future__ import annotations

import os
import shlex
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import scimtenants
import transcripts

from usher_core.embedded.databases import DatabaseUrls

if TYPE_CHECKING:
    from clusters import Cluster
    from releases import Release

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "operator.md"
UPDATING = bool(os.environ.get("USHER_UPDATE_DOCS"))
READING = {"describe", "explain", "get", "wait"}
PATIENCE = 20.0  # seconds until an event, or a status, says what it will


def test_the_document_shows_what_kubectl_says(
    cluster: Cluster, operator: Release, namespace: str, database_urls: DatabaseUrls, tmp_path: Path
) -> None:
    manifest = tmp_path / "acme.yaml"
    manifest.write_text(scimtenants.example(namespace))
    here = {"identity": namespace, "acme.yaml": str(manifest)}

    def names() -> dict[str, str]:
        with psycopg.connect(database_urls.owner) as owner:
            issued = owner.execute(
                "SELECT token_id FROM tokens JOIN tenants t USING (tenant) WHERE t.namespace = %s"
                " ORDER BY issued_at",
                [namespace],
            ).fetchall()
        ids = {token_id: f"5k7q0zt5xw2m9c{number:02}" for number, (token_id,) in enumerate(issued)}
        return {namespace: "identity", **ids}

    alike = transcripts.Alike(datetime.now(UTC), names)

    def ask(command: str) -> str:
        program, *words = shlex.split(command)
        assert program == "kubectl"
        said = cluster.run(*(here.get(word, word) for word in words))
        return alike(said.stdout + said.stderr)

    def run(command: str, expected: str) -> str:
        said, reads = ask(command), not READING.isdisjoint(shlex.split(command))
        deadline = time.monotonic() + PATIENCE
        if UPDATING and reads:
            time.sleep(3)
            return ask(command)
        while not UPDATING and not transcripts.is_same(said, expected):
            assert reads, f"{command}\nsays\n{said}\nand the document\n{expected}"
            assert time.monotonic() < deadline, f"{command}\nsays\n{said}\nand the document\n{expected}"
            time.sleep(0.5)
            said = ask(command)
        return said

    def do(who: str, what: str) -> None:
        assert (who, what) in (("operator", "stop"), ("operator", "start"))
        getattr(operator, what)()

    document = DOCUMENT.read_text()
    replayed = transcripts.replayed(document, run, do)
    if UPDATING:
        DOCUMENT.write_text(replayed)
    assert document.count("$ kubectl") > 15
