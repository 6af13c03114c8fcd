"""The schema's history, oldest first, and the one way to apply it."""

from __future__ import annotations

from pathlib import Path

import alembic.command
import alembic.config
import alembic.script
import psycopg
import sqlalchemy

from usher_core import errors

OWNER = "usher_owner"
APP = "usher_app"


def _config() -> alembic.config.Config:
    config = alembic.config.Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def head() -> str:
    """Tell the revision that this version of the code needs."""
    revision = alembic.script.ScriptDirectory.from_config(_config()).get_current_head()
    assert revision is not None  # noqa: S101 - the package always holds at least one revision
    return revision


def upgrade(url: str) -> str:
    """Bring the schema to `head()` as the role usher_owner and return the revision.

    Creates the roles usher_owner and usher_app (no login) where they are missing and the role that logs
    in may create roles. Safe to run twice and from two places at once.

    Raises:
        ConfigurationInvalid: the roles are missing and can't be made, or the login may not act as owner.
        StoreUnavailable: PostgreSQL can't be reached.
    """
    engine = sqlalchemy.create_engine(
        url.replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+psycopg://", 1),
        poolclass=sqlalchemy.NullPool,
    )
    try:
        with engine.connect() as connection:
            _take_owner(connection)
            config = _config()
            config.attributes["connection"] = connection
            alembic.command.upgrade(config, "head")
            connection.commit()
    except sqlalchemy.exc.OperationalError as exc:
        raise errors.StoreUnavailable(f"PostgreSQL can't be reached for migrations: {exc.orig}") from exc
    finally:
        engine.dispose()
    return head()


def _take_owner(connection: sqlalchemy.Connection) -> None:
    present = set(
        connection.exec_driver_sql(
            "SELECT rolname FROM pg_roles WHERE rolname IN (%s, %s)", (OWNER, APP)
        ).scalars()
    )
    try:
        for role in (OWNER, APP):
            if role not in present:
                connection.exec_driver_sql(f"CREATE ROLE {role}")
        if connection.exec_driver_sql("SELECT current_user").scalar_one() != OWNER:
            if not present.issuperset((OWNER, APP)):
                connection.exec_driver_sql(f"GRANT {OWNER}, {APP} TO CURRENT_USER")
            may_create = "SELECT has_schema_privilege(%s, 'public', 'CREATE')"
            if not connection.exec_driver_sql(may_create, (OWNER,)).scalar_one():
                connection.exec_driver_sql(f"GRANT CREATE ON SCHEMA public TO {OWNER}")
            connection.exec_driver_sql(f"SET ROLE {OWNER}")
        connection.commit()
    except sqlalchemy.exc.ProgrammingError as exc:
        if isinstance(exc.orig, psycopg.errors.InsufficientPrivilege):
            raise errors.ConfigurationInvalid(
                f"migrations need the roles {OWNER} and {APP}: create them, or log in as a role that may "
                f"create roles or is a member of {OWNER}"
            ) from exc
        raise
