"""What reading in full compares: folded text, moments, and the key of cursors."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy
from alembic import op

from usher_core.store import foldings

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FUNCTIONS = ("usher_moment(text)", "usher_write_batch(uuid, timestamptz, jsonb)")

DOCUMENTS = """
SELECT tenant, type, id, document FROM resources WHERE octet_length(document::text) <> length(document::text)
"""
DISPLAYS = """
SELECT tenant, group_id, member_id, display FROM members WHERE octet_length(display) <> length(display)
"""


def upgrade() -> None:
    """Add the columns and functions, and fold what is there; run as usher_owner."""
    connection = op.get_bind()
    # Straight to the driver: the colons of a cast are no parameters.
    connection.exec_driver_sql(Path(__file__).with_name("0002_reading.sql").read_text(encoding="utf-8"))
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO usher_app")
    _fold(connection)


def _fold(connection: sqlalchemy.Connection) -> None:
    for tenant, kind, resource_id, document in connection.exec_driver_sql(DOCUMENTS).fetchall():
        connection.exec_driver_sql(
            "UPDATE resources SET folded = %s::jsonb WHERE tenant = %s AND type = %s AND id = %s",
            (foldings.as_json(document), tenant, kind, resource_id),
        )
    for tenant, group, member, display in connection.exec_driver_sql(DISPLAYS).fetchall():
        connection.exec_driver_sql(
            "UPDATE members SET folded = %s WHERE tenant = %s AND group_id = %s AND member_id = %s",
            (foldings.text(display), tenant, group, member),
        )
