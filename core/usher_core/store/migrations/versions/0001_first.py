"""The first schema: tenants, tokens, resources, the change log and their guards."""

from __future__ import annotations

from pathlib import Path

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Text is folded by Python before it is stored, so PostgreSQL compares bytes: COLLATE "C".
TABLES = """
CREATE TABLE tenants (
    tenant        uuid PRIMARY KEY,
    namespace     text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    display_name  text,
    host          text COLLATE "C",
    suspended     boolean NOT NULL DEFAULT false,
    sso_required  boolean NOT NULL DEFAULT true,
    sso_ready     boolean NOT NULL DEFAULT false,
    sso_message   text NOT NULL DEFAULT '',
    config        jsonb NOT NULL DEFAULT '{}',
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz,
    UNIQUE (namespace, name)
);
CREATE TABLE tokens (
    tenant        uuid NOT NULL,
    token_id      text COLLATE "C" NOT NULL,
    name          text COLLATE "C" NOT NULL,
    digest        bytea NOT NULL,
    role          text COLLATE "C" NOT NULL CHECK (role IN ('administrator', 'reader')),
    issued_at     timestamptz NOT NULL,
    expires_at    timestamptz NOT NULL,
    valid_until   timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz,
    PRIMARY KEY (tenant, token_id),
    -- A difference of moments knows no time zone: adding days would.
    CHECK (expires_at - issued_at <= interval '365 days'),
    CHECK (octet_length(digest) = 32)
);
-- The one index without the tenant in front: a bearer token is what tells the tenant.
CREATE UNIQUE INDEX tokens_by_id ON tokens (token_id);
CREATE TABLE drains (
    tenant  uuid PRIMARY KEY,
    epoch   bigint NOT NULL DEFAULT 0
);
CREATE TABLE resources (
    tenant        uuid NOT NULL,
    type          text COLLATE "C" NOT NULL,
    id            uuid NOT NULL,
    version       bigint NOT NULL,
    document      jsonb NOT NULL,
    external_id   text COLLATE "C",
    display_name  text COLLATE "C",
    created_at    timestamptz NOT NULL,
    modified_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant, type, id)
);
CREATE INDEX resources_by_external_id ON resources (tenant, type, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX resources_by_display_name ON resources (tenant, type, display_name)
    WHERE display_name IS NOT NULL;
CREATE TABLE unique_values (
    tenant  uuid NOT NULL,
    type    text COLLATE "C" NOT NULL,
    path    text COLLATE "C" NOT NULL,
    folded  text COLLATE "C" NOT NULL,
    id      uuid NOT NULL,
    PRIMARY KEY (tenant, type, path, folded)
);
CREATE TABLE lookup_values (
    tenant  uuid NOT NULL,
    type    text COLLATE "C" NOT NULL,
    path    text COLLATE "C" NOT NULL,
    folded  text COLLATE "C" NOT NULL,
    id      uuid NOT NULL,
    PRIMARY KEY (tenant, type, path, folded, id)
);
CREATE TABLE members (
    tenant       uuid NOT NULL,
    group_id     uuid NOT NULL,
    member_id    uuid NOT NULL,
    member_type  text COLLATE "C" NOT NULL,
    display      text,
    PRIMARY KEY (tenant, group_id, member_id)
);
CREATE INDEX members_by_member ON members (tenant, member_id, group_id);
CREATE TABLE totals (
    tenant  uuid NOT NULL,
    type    text COLLATE "C" NOT NULL,
    total   bigint NOT NULL,
    PRIMARY KEY (tenant, type)
);
CREATE TABLE change_log (
    tenant         uuid NOT NULL,
    accepted_at    timestamptz NOT NULL,
    change_id      uuid NOT NULL,
    stream_id      text COLLATE "C" NOT NULL,
    operation      text COLLATE "C" NOT NULL,
    resource_type  text COLLATE "C" NOT NULL,
    resource_id    uuid NOT NULL,
    token_id       text COLLATE "C" NOT NULL,
    request_id     text NOT NULL,
    body           jsonb,
    applied_at     timestamptz NOT NULL,
    status         smallint NOT NULL,
    scim_type      text COLLATE "C",
    detail         text,
    version        bigint,
    PRIMARY KEY (tenant, accepted_at, change_id)
) PARTITION BY RANGE (accepted_at);
CREATE TABLE dead_letters (
    tenant       uuid NOT NULL,
    accepted_at  timestamptz NOT NULL,
    change_id    uuid NOT NULL,
    change       jsonb NOT NULL,
    reason       text COLLATE "C" NOT NULL,
    traceback    text NOT NULL,
    attempts     integer NOT NULL,
    failed_at    timestamptz NOT NULL,
    PRIMARY KEY (tenant, accepted_at, change_id)
);
"""

GUARDED = (
    "tenants", "tokens", "drains", "resources", "unique_values", "lookup_values",
    "members", "totals", "change_log", "dead_letters",
)  # fmt: skip

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
    "dead_letters": "SELECT, INSERT, UPDATE, DELETE",
    "alembic_version": "SELECT",
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

# The narrow paths across tenants; each runs with the owner's rights and does one thing.
FUNCTIONS = """
CREATE FUNCTION usher_token(p_token_id text)
RETURNS TABLE (
    tenant uuid, token_id text, name text, digest bytea, role text, expires_at timestamptz,
    valid_until timestamptz, revoked_at timestamptz, last_used_at timestamptz,
    tenant_name text, tenant_namespace text, host text, suspended boolean,
    sso_required boolean, sso_ready boolean, sso_message text, config jsonb, deleted_at timestamptz
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
    SELECT k.tenant, k.token_id, k.name, k.digest, k.role, k.expires_at,
           k.valid_until, k.revoked_at, k.last_used_at,
           t.name, t.namespace, t.host, t.suspended,
           t.sso_required, t.sso_ready, t.sso_message, t.config, t.deleted_at
      FROM tokens k JOIN tenants t USING (tenant)
     WHERE k.token_id = p_token_id
$$;
CREATE FUNCTION usher_tenants()
RETURNS TABLE (tenant uuid, namespace text, name text, host text, deleted_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$ SELECT t.tenant, t.namespace, t.name, t.host, t.deleted_at FROM tenants t $$;
CREATE FUNCTION usher_keep_change_log(p_moment timestamptz)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
DECLARE
    v_first date := date_trunc('month', p_moment AT TIME ZONE 'UTC')::date;
    v_name  text := 'change_log_' || to_char(v_first, 'YYYY_MM');
BEGIN
    IF to_regclass(format('%I', v_name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('usher_change_log'));
    IF to_regclass(format('%I', v_name)) IS NOT NULL THEN
        RETURN false;
    END IF;
    EXECUTE format(
        'CREATE TABLE %I PARTITION OF change_log FOR VALUES FROM (%L) TO (%L)', v_name,
        v_first::timestamp AT TIME ZONE 'UTC',
        (v_first + interval '1 month')::timestamp AT TIME ZONE 'UTC');
    RETURN true;
END
$$;
CREATE FUNCTION usher_drop_change_log(p_before timestamptz)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
DECLARE
    v_name  text;
    v_count integer := 0;
BEGIN
    FOR v_name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
         WHERE i.inhparent = 'change_log'::regclass
           AND c.relname < 'change_log_' || to_char(p_before AT TIME ZONE 'UTC', 'YYYY_MM')
    LOOP
        EXECUTE format('DROP TABLE %I', v_name);
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END
$$;
CREATE FUNCTION usher_forget_change_log(p_tenant uuid, p_limit integer)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
DECLARE
    v_count integer;
BEGIN
    -- Only what a deleted tenant left behind may ever be taken out of the log.
    PERFORM 1 FROM tenants WHERE tenant = p_tenant AND deleted_at IS NULL;
    IF FOUND THEN
        RAISE EXCEPTION 'the change log of a living tenant is for good'
              USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM change_log l USING (
        SELECT accepted_at, change_id FROM change_log WHERE tenant = p_tenant LIMIT p_limit) old
     WHERE l.tenant = p_tenant AND l.accepted_at = old.accepted_at AND l.change_id = old.change_id;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    RETURN v_count;
END
$$;
"""


def upgrade() -> None:
    """Create everything; run as usher_owner."""
    schema = op.get_bind().exec_driver_sql("SELECT current_schema()").scalar_one()
    op.execute(TABLES)
    for table in GUARDED:
        op.execute(POLICIES.format(table=table))
    for table, rights in GRANTS.items():
        op.execute(f"GRANT {rights} ON {table} TO usher_app")
    op.execute(FUNCTIONS.replace("{schema}", f'"{schema}"'))
    # Straight to the driver: the colons of a cast are no parameters.
    op.get_bind().exec_driver_sql(Path(__file__).with_name("0001_batches.sql").read_text(encoding="utf-8"))
    for function in ("usher_token(text)", "usher_tenants()", "usher_keep_change_log(timestamptz)",
                     "usher_drop_change_log(timestamptz)",
                     "usher_forget_change_log(uuid, integer)",
                     "usher_open_batch(uuid, bigint, jsonb)",
                     "usher_apply_batch(uuid, timestamptz, jsonb)"):  # fmt: skip
        op.execute(f"REVOKE ALL ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO usher_app")
    op.execute("SELECT usher_keep_change_log(now()), usher_keep_change_log(now() + interval '1 month')")
