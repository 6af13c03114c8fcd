"""The first schema: tenants, tokens, resources, the change log and their guards."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# What the serving role may do beyond reading; the change log can't be rewritten.
GRANTS = {
    "tenants": "SELECT, INSERT, UPDATE, DELETE",
    "tokens": "SELECT, INSERT, UPDATE, DELETE",
    "drains": "SELECT, INSERT, UPDATE, DELETE",
    "resources": "SELECT, INSERT, UPDATE, DELETE",
    "unique_values": "SELECT, INSERT, UPDATE, DELETE",
    "lookup_values": "SELECT, INSERT, UPDATE, DELETE",
    "members": "SELECT, INSERT, UPDATE, DELETE",
    "totals": "SELECT, INSERT, UPDATE, DELETE",
    "change_log": "SELECT, INSERT",
    "deleted_resources": "SELECT, INSERT, DELETE",
    "inbox": "SELECT, INSERT, DELETE",
    "fences": "SELECT, INSERT, DELETE",
    "events": "SELECT, INSERT",
    "schema_requests": "SELECT, INSERT, UPDATE, DELETE",
    "dead_letters": "SELECT, INSERT, UPDATE, DELETE",
}

# A transaction that has not named its tenant compares with NULL and sees nothing.
POLICIES = """
ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;
ALTER TABLE {table} FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON {table} TO usher_app
    USING (tenant = nullif(current_setting('usher.tenant', true), '')::uuid)
    WITH CHECK (tenant = nullif(current_setting('usher.tenant', true), '')::uuid);
CREATE POLICY of_owner ON {table} TO usher_owner USING (true) WITH CHECK (true);
"""

FUNCTIONS = (
    "usher_token(text)",
    "usher_tenants()",
    "usher_keep_change_log(timestamptz)",
    "usher_drop_change_log(timestamptz)",
    "usher_forget_change_log(uuid, integer)",
    "usher_purge_deleted(integer)",
    "usher_inbox(timestamptz, uuid, bigint, integer)",
    "usher_moment(text)",
    "usher_read_batch(uuid, bigint, jsonb)",
    "usher_write_batch(uuid, timestamptz, jsonb)",
    "usher_apply_batch(uuid, bigint, jsonb, jsonb, jsonb)",
    "usher_accept(uuid, uuid, timestamptz, bytea, jsonb, jsonb)",
    "usher_write_events(uuid, timestamptz, jsonb)",
    "usher_settle(uuid, jsonb)",
    "usher_begin_term(text)",
    "usher_insist_on_term(bigint)",
    "usher_figures(uuid)",
)


def upgrade() -> None:
    """Create everything; run as usher_owner."""
    schema = op.get_bind().exec_driver_sql("SELECT current_schema()").scalar_one()
    _run("tables")
    for table, rights in GRANTS.items():
        op.execute(POLICIES.format(table=table))
        op.execute(f"GRANT {rights} ON {table} TO usher_app")
    op.execute("GRANT SELECT ON alembic_version TO usher_app")
    parts = {name: _read(name) for name in ("additions", "events")}
    for file in ("functions", "moments", "batches", "revocations", "operators"):
        _run(file, schema=f'"{schema}"', **parts)
    for function in FUNCTIONS:
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO usher_app")
    op.execute("SELECT usher_keep_change_log(now()), usher_keep_change_log(now() + interval '1 month')")


def _run(file: str, **names: str) -> None:
    """Run a file of statements beside this one, with the names in braces put in."""
    text = _read(file)
    for name, value in names.items():
        text = text.replace(f"{{{name}}}", value)
    # Straight to the driver: the colons of a cast are no parameters, and neither is what format() takes.
    op.get_bind().exec_driver_sql(text.replace("%", "%%"))


def _read(file: str) -> str:
    return Path(__file__).with_name(f"{revision}_{file}.sql").read_text(encoding="utf-8")
