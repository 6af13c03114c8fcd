"""PostgreSQL and Valkey behind `usher dev`: those that the environment names, else embedded ones.

`runs` starts them first and gives the services their environment from here. Either can be a real server
by itself, with USHER_DATABASE_URL or USHER_REDIS_URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from usher_core.dev import supervisors
from usher_core.embedded import databases, servers

_DATABASE_URL = "USHER_DATABASE_URL"
_MIGRATE_DATABASE_URL = "USHER_MIGRATE_DATABASE_URL"
_REDIS_URL = "USHER_REDIS_URL"


@dataclass(frozen=True)
class Backends:
    """How to reach both, as the app and as the owner; a server is `None` when it is not ours."""

    database_url: str
    migrate_database_url: str | None
    redis_url: str
    postgres: servers.PostgresServer | None = None
    valkey: servers.ValkeyServer | None = None

    def environment(self, surrounding: Mapping[str, str], *, migrates: bool = False) -> dict[str, str]:
        """Compose a child's environment; only one that migrates is told how to be the owner."""
        env = {**surrounding, _DATABASE_URL: self.database_url, _REDIS_URL: self.redis_url}
        env.pop(_MIGRATE_DATABASE_URL, None)
        if migrates and self.migrate_database_url is not None:
            env[_MIGRATE_DATABASE_URL] = self.migrate_database_url
        return env


def start(data: Path, surrounding: Mapping[str, str], supervisor: supervisors.Supervisor) -> Backends:
    """Start what the surrounding environment doesn't name, with its data below `data`.

    Raises:
        ConfigurationInvalid: a server can't run; the message has its last words.
    """
    postgres = valkey = None
    database_url, redis_url = surrounding.get(_DATABASE_URL, ""), surrounding.get(_REDIS_URL, "")
    migrate_database_url = surrounding.get(_MIGRATE_DATABASE_URL)
    if not database_url:
        postgres = servers.PostgresServer(data / "postgres")
        supervisor.add(postgres)
        urls = databases.bootstrap(postgres)
        database_url, migrate_database_url = urls.app, urls.owner
    if not redis_url:
        valkey = servers.ValkeyServer(data / "valkey")
        supervisor.add(valkey)
        redis_url = valkey.url
    return Backends(database_url, migrate_database_url, redis_url, postgres, valkey)
