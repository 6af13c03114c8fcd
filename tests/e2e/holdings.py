"""All that the servers of a session hold, piece by piece, for a test that looks for what must not be there.

Each function yields pieces with the place where they were found. Invariant: nothing is left out because it is
compressed, encoded or overwritten since.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import redis

from usher_core.embedded import binaries


class Piece(NamedTuple):
    """Some bytes, and where they are."""

    place: str
    content: bytes


def in_etcd(url: str) -> Iterator[Piece]:
    """Yield every value with its key, as it is now and as it was as far back as etcd remembers."""
    everything = {"key": "AA==", "range_end": "AA=="}
    start, latest = "1", int(_post(f"{url}/v3/kv/range", {"key": "AA=="})["header"]["revision"])
    following = "AA=="
    while following:
        page = _post(f"{url}/v3/kv/range", {**everything, "key": following, "limit": 500})
        yield from (_pair(it) for it in page["kvs"])
        # A key is followed by the one that is longer by a zero.
        last = base64.b64decode(page["kvs"][-1]["key"]) + b"\0"
        following = base64.b64encode(last).decode() if page.get("more") else ""
    while start:
        begin = {"create_request": {**everything, "start_revision": start, "fragment": True}}
        start = ""
        with contextlib.closing(_open(f"{url}/v3/watch", begin)) as answers:
            for line in answers:
                result = json.loads(line)["result"]
                if result.get("canceled"):
                    start = result["compact_revision"]
                    break
                yield from (_pair(it["kv"]) for it in result.get("events", []))
                if any(int(it["kv"]["mod_revision"]) >= latest for it in result.get("events", [])):
                    break


def _pair(kv: dict[str, str]) -> Piece:
    place = base64.b64decode(kv["key"])
    return Piece(f"etcd: {place.decode()}", place + b"\n" + base64.b64decode(kv.get("value", "")))


def _post(url: str, body: dict[str, Any]) -> Any:
    with contextlib.closing(_open(url, body)) as answer:
        return json.load(answer)


def _open(url: str, body: dict[str, Any]) -> Any:
    return urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode()), timeout=60)


def in_valkey(url: str) -> Iterator[Piece]:
    """Yield every key of every database with its value."""
    with contextlib.closing(redis.Redis.from_url(url)) as client:
        compression = client.config_get("rdbcompression")["rdbcompression"]
        client.config_set("rdbcompression", "no")
        for number in client.info("keyspace"):
            client.select(int(number.removeprefix("db")))
            for key in client.scan_iter(count=1000):
                yield Piece(f"Valkey: {key!r}", key + b"\n" + (client.dump(key) or b""))
        client.config_set("rdbcompression", compression)


@contextlib.contextmanager
def commands_of(url: str) -> Iterator[list[Piece]]:
    """Note every command that Valkey is sent while the block runs: what is gone again, too."""
    noted: list[Piece] = []
    with contextlib.closing(redis.Redis.from_url(url)) as client, client.monitor() as monitor:

        def note() -> None:
            for command in monitor.listen():
                noted.append(Piece("Valkey's commands", command["command"].encode(errors="replace")))
                if command["command"] == "ECHO done":
                    return

        thread = threading.Thread(target=note)
        thread.start()
        try:
            yield noted
        finally:
            with contextlib.closing(redis.Redis.from_url(url)) as other:
                other.echo("done")
            thread.join(30)


def in_postgres(url: str) -> Piece:
    """Return a dump of the database, with all data; the URL is the superuser's, whom no policy binds."""
    dump = subprocess.run(
        [binaries.postgres("pg_dump"), "--dbname", url], capture_output=True, check=True, timeout=120
    )
    return Piece("PostgreSQL", dump.stdout)


def in_files(folder: Path, besides: Iterable[Path] = ()) -> Iterator[Piece]:
    """Yield every file below a folder: data, logs, configuration."""
    left_out = tuple(besides)
    for file in folder.rglob("*"):
        if not file.is_file() or file.is_symlink() or any(file.is_relative_to(it) for it in left_out):
            continue
        with contextlib.suppress(FileNotFoundError):
            yield Piece(str(file), file.read_bytes())


def forms_of(text: str) -> list[bytes]:
    """List what a text looks like plain, in hexadecimal, and in base64 wherever in what is encoded."""
    raw = text.encode()
    forms = [raw, raw.hex().encode()]
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + raw)
        # The ends hold bits of what stands beside it.
        forms.append(encoded[4 if shift else 0 : -4])
    return forms
