"""Deleted users that can still be restored, and a batch that knows what its tenant allows."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE deleted_resources (
    tenant       uuid NOT NULL,
    type         text COLLATE "C" NOT NULL,
    id           uuid NOT NULL,
    version      bigint NOT NULL,
    document     jsonb NOT NULL,
    created_at   timestamptz NOT NULL,
    modified_at  timestamptz NOT NULL,
    deleted_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant, type, id)
);
CREATE INDEX deleted_resources_by_time ON deleted_resources (tenant, deleted_at);
GRANT SELECT, INSERT, DELETE ON deleted_resources TO usher_app;
ALTER TABLE deleted_resources ENABLE ROW LEVEL SECURITY;
ALTER TABLE deleted_resources FORCE ROW LEVEL SECURITY;
CREATE POLICY of_tenant ON deleted_resources TO usher_app
    USING (tenant = nullif(current_setting('usher.tenant', true), '')::uuid)
    WITH CHECK (tenant = nullif(current_setting('usher.tenant', true), '')::uuid);
CREATE POLICY of_owner ON deleted_resources TO usher_owner USING (true) WITH CHECK (true);
"""

# The sweep's narrow path across tenants: it takes away what is older than its tenant keeps it, nothing else.
PURGE = """
CREATE FUNCTION usher_purge_deleted(p_limit integer)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
DECLARE
    v_count integer;
BEGIN
    DELETE FROM deleted_resources d USING (
        SELECT o.tenant, o.type, o.id FROM tenants t CROSS JOIN LATERAL (
            SELECT tenant, type, id FROM deleted_resources
             WHERE tenant = t.tenant
               AND deleted_at < now() - coalesce(t.config ->> 'deleted_retention', '720h')::interval
             LIMIT p_limit) o
         LIMIT p_limit) old
     WHERE d.tenant = old.tenant AND d.type = old.type AND d.id = old.id;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;
"""


def upgrade() -> None:
    """Add the table, its guards and the functions; run as usher_owner."""
    schema = op.get_bind().exec_driver_sql("SELECT current_schema()").scalar_one()
    op.execute(TABLE)
    # Straight to the driver: the colons of a cast are no parameters.
    op.get_bind().exec_driver_sql(PURGE.replace("{schema}", f'"{schema}"'))
    op.get_bind().exec_driver_sql(Path(__file__).with_name("0003_deleted.sql").read_text(encoding="utf-8"))
    for function in ("usher_purge_deleted(integer)", "usher_read_batch(uuid, bigint, jsonb)"):
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO usher_app")
