"""The ready file of `usher dev`: where everything is, for scripts, benchmarks and tests.

`runs` writes it once the service answers, and again when a child was replaced. It holds tokens and
passwords, so its mode is 0600; a reader sees the old one or the new one, never a part.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import orjson

from usher_core.embedded import private_files


@dataclass(frozen=True)
class ReadyTenant:
    """How to reach a tenant; the token is `None` when only its hash is known here."""

    base_url: str
    token: str | None


@dataclass(frozen=True)
class Pids:
    """The processes themselves, not their keepers; `None` for a server that is not ours."""

    api: int
    worker: tuple[int, ...]
    postgres: int | None
    valkey: int | None


@dataclass(frozen=True)
class Ready:
    """What the file says."""

    tenants: dict[str, ReadyTenant]
    database_url: str
    redis_url: str
    pids: Pids


def write(path: Path, ready: Ready) -> None:
    """Put the file in its place, as JSON with these names."""
    private_files.write(path, orjson.dumps(ready, option=orjson.OPT_INDENT_2).decode() + "\n")
