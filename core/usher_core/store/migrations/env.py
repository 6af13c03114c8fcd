"""Runs the migrations as the role that owns the schema; one process at a time."""

from __future__ import annotations

import sqlalchemy
from alembic import context

# Two migration jobs at once (an impatient upgrade) take their turns.
LOCK = 0x75736865


def run() -> None:
    """Migrate on the connection that `migrations.upgrade` hands over."""
    connection: sqlalchemy.Connection = context.config.attributes["connection"]
    context.configure(connection=connection, transaction_per_migration=False)
    with context.begin_transaction():
        connection.execute(sqlalchemy.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        context.run_migrations()


run()
