"""Real servers for a test session, in one call; a session fixture starts them and stops them.

They are the embedded ones, with their own passwords and ports, so sessions run beside each other. They die
with the process that started them, whatever ends it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from usher_core.embedded import databases
from usher_core.embedded.servers import PostgresServer, ValkeyServer


@dataclass(frozen=True)
class Servers:
    """A running PostgreSQL, with the roles and the empty database `usher`, and a running Valkey."""

    postgres: PostgresServer
    valkey: ValkeyServer
    database: databases.DatabaseUrls

    @property
    def redis_url(self) -> str:
        """The URL of Valkey's database 0, with the password."""
        return self.valkey.url

    def stop(self) -> None:
        """Stop both; it may be called twice."""
        self.valkey.stop()
        self.postgres.stop()

    def __enter__(self) -> Servers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def start_servers(folder: Path, postgres_settings: Mapping[str, str] | None = None) -> Servers:
    """Start both servers with their data below `folder`; what is there already is kept."""
    postgres = PostgresServer(folder / "postgres", settings=postgres_settings)
    valkey = ValkeyServer(folder / "valkey")
    try:
        postgres.start()
        valkey.start()
        return Servers(postgres=postgres, valkey=valkey, database=databases.bootstrap(postgres))
    except BaseException:
        valkey.stop()
        postgres.stop()
        raise
