"""The bootstrap makes two modest roles and one database, and leaves alone what is there."""

from __future__ import annotations

import stat
from pathlib import Path

import psycopg
import pytest

from usher_core.testing import servers


def test_the_bootstrap_makes_modest_roles_and_keeps_what_is_there(tmp_path: Path) -> None:
    with servers.start_servers(tmp_path) as started:
        first = started.database
        with psycopg.connect(first.owner) as owner:
            owner.execute("CREATE TABLE kept ()")
    with servers.start_servers(tmp_path) as started:
        assert started.database == first
        with psycopg.connect(first.owner) as owner:
            assert owner.execute("TABLE kept").fetchall() == []
        with psycopg.connect(first.admin) as admin:
            roles = admin.execute(
                "SELECT rolname, rolcanlogin, rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb"
                " FROM pg_roles WHERE rolname LIKE 'usher%' ORDER BY rolname"
            ).fetchall()
            database = admin.execute(
                "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocale"
                " FROM pg_database WHERE datname = 'usher'"
            ).fetchone()
        with psycopg.connect(first.app) as app, pytest.raises(psycopg.errors.InsufficientPrivilege):
            app.execute("CREATE TABLE mine ()")
    assert roles == [("usher_app", True, False), ("usher_owner", True, False)]
    assert database == ("usher_owner", "UTF8", "C.UTF-8")
    for role in ("usher_app", "usher_owner"):
        kept = tmp_path / "postgres" / f"{role}.password"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert kept.read_text() not in (tmp_path / "postgres" / "server.log").read_text()
