"""The roles and the database that Usher needs, made on an embedded PostgreSQL.

`usher dev` and the tests call it after each start; a real server is prepared by its administrator in the
same way. Neither role is a superuser or passes row-level security: what the app role can't see here it
can't see anywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg
from psycopg import sql

from usher_core.embedded import private_files, servers

_DATABASE = "usher"
_OWNER = "usher_owner"
_APP = "usher_app"


@dataclass(frozen=True)
class DatabaseUrls:
    """Three ways into one server; the last two into the database `usher`.

    `admin` is the superuser in the database `postgres`, `owner` migrates, `app` serves.
    """

    admin: str
    owner: str
    app: str


def bootstrap(server: servers.PostgresServer) -> DatabaseUrls:
    """Make the roles and the database where they are missing, and answer how to connect."""
    passwords = {role: private_files.password(server.data / f"{role}.password") for role in (_OWNER, _APP)}
    with psycopg.connect(server.url, autocommit=True) as connection:
        for role, password in passwords.items():
            _make_role(connection, role, password)
        known = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [_DATABASE])
        if known.fetchone() is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {} OWNER {}").format(
                    sql.Identifier(_DATABASE), sql.Identifier(_OWNER)
                )
            )
    return DatabaseUrls(
        admin=server.url,
        owner=server.url_of(_OWNER, passwords[_OWNER], _DATABASE),
        app=server.url_of(_APP, passwords[_APP], _DATABASE),
    )


def _make_role(connection: psycopg.Connection[tuple[object, ...]], role: str, password: str) -> None:
    known = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone()
    # Hashed here: the server's log never sees the password itself.
    verifier = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("{} ROLE {} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS PASSWORD {}").format(
            sql.SQL("CREATE" if known is None else "ALTER"),
            sql.Identifier(role),
            sql.Literal(verifier.decode()),
        )
    )
