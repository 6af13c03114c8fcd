-- The narrow paths across tenants; each runs with the owner's rights and does one thing.
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
-- The sweep takes away what is older than its tenant keeps it, nothing else.
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
