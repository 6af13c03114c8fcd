"""Which revision of the schema the database has, as a serving process sees it."""

from __future__ import annotations

from usher_core.store import databases

# The head of the migrations, told here too: to ask them would load alembic and SQLAlchemy, a second and 27 MB
# of every serving process, which needs neither.
NEEDED = 1

CURRENT = "SELECT version_num FROM alembic_version"
EXISTS = "SELECT to_regclass('alembic_version') IS NOT NULL"


async def is_sufficient(database: databases.Database) -> bool:
    """Tell whether the schema is at least what this version of the code needs.

    Revisions are numbers in order: a schema that is ahead, in the middle of an upgrade, will do.

    Raises:
        StoreUnavailable: PostgreSQL is away.
    """
    [[(exists,)]] = await database.fetch(None, (EXISTS, ()))
    if not exists:
        return False
    [rows] = await database.fetch(None, (CURRENT, ()))
    return bool(rows) and int(rows[0][0]) >= NEEDED
