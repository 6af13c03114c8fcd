-- The narrow paths across tenants; each runs with the owner's rights and does one thing.
CREATE FUNCTION usher_token(p_token_id text)
RETURNS TABLE (
    tenant uuid, token_id text, name text, digest bytea, role text, expires_at timestamptz,
    valid_until timestamptz, revoked_at timestamptz, last_used_at timestamptz,
    tenant_name text, tenant_namespace text, host text, suspended boolean,
    sso_required boolean, sso_ready boolean, sso_message text, config jsonb, deleted_at timestamptz,
    schemas_version bigint
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
    SELECT k.tenant, k.token_id, k.name, k.digest, k.role, k.expires_at,
           k.valid_until, k.revoked_at, k.last_used_at,
           t.name, t.namespace, t.host, t.suspended,
           t.sso_required, t.sso_ready, t.sso_message, t.config, t.deleted_at, t.schemas_version
      FROM tokens k JOIN tenants t USING (tenant)
     WHERE k.token_id = p_token_id
$$;
CREATE FUNCTION usher_tenants()
RETURNS TABLE (tenant uuid, namespace text, name text, host text, deleted_at timestamptz)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$ SELECT t.tenant, t.namespace, t.name, t.host, t.deleted_at FROM tenants t $$;
-- The change log and the events, a partition a month each. Tells whether one had to be made.
CREATE FUNCTION usher_keep_change_log(p_moment timestamptz)
RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
DECLARE
    v_first  date := date_trunc('month', p_moment AT TIME ZONE 'UTC')::date;
    v_suffix text := to_char(v_first, '_YYYY_MM');
    v_table  text;
BEGIN
    IF to_regclass('change_log' || v_suffix) IS NOT NULL THEN
        RETURN false;
    END IF;
    PERFORM pg_advisory_xact_lock(hashtext('usher_change_log'));
    IF to_regclass('change_log' || v_suffix) IS NOT NULL THEN
        RETURN false;
    END IF;
    FOREACH v_table IN ARRAY ARRAY['change_log', 'events'] LOOP
        EXECUTE format(
            'CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', v_table || v_suffix, v_table,
            v_first::timestamp AT TIME ZONE 'UTC',
            (v_first + interval '1 month')::timestamp AT TIME ZONE 'UTC');
    END LOOP;
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
         WHERE i.inhparent IN ('change_log'::regclass, 'events'::regclass)
           AND right(c.relname, 7) < to_char(p_before AT TIME ZONE 'UTC', 'YYYY_MM')
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
    v_logged integer;
    v_events integer;
BEGIN
    -- Only what a deleted tenant left behind may ever be taken out of the log and the events.
    PERFORM 1 FROM tenants WHERE tenant = p_tenant AND deleted_at IS NULL;
    IF FOUND THEN
        RAISE EXCEPTION 'the change log of a living tenant is for good'
              USING ERRCODE = 'insufficient_privilege';
    END IF;
    DELETE FROM change_log l USING (
        SELECT accepted_at, change_id FROM change_log WHERE tenant = p_tenant LIMIT p_limit) old
     WHERE l.tenant = p_tenant AND l.accepted_at = old.accepted_at AND l.change_id = old.change_id;
    GET DIAGNOSTICS v_logged = ROW_COUNT;
    DELETE FROM events e USING (
        SELECT number, at FROM events WHERE tenant = p_tenant LIMIT p_limit) old
     WHERE e.tenant = p_tenant AND e.number = old.number AND e.at = old.at;
    GET DIAGNOSTICS v_events = ROW_COUNT;
    RETURN greatest(v_logged, v_events);
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
-- What is promised and waits for its turn, of all living tenants, a page at a time: the sweep puts back what the
-- queue lost.
CREATE FUNCTION usher_inbox(p_before timestamptz, p_tenant uuid, p_number bigint, p_limit integer)
RETURNS TABLE (tenant uuid, number bigint, change_id uuid)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
    SELECT i.tenant, i.number, i.change_id
      FROM inbox i JOIN tenants t ON t.tenant = i.tenant AND t.deleted_at IS NULL
     WHERE (i.tenant, i.number) > (p_tenant, p_number) AND i.accepted_at < p_before
     ORDER BY i.tenant, i.number LIMIT p_limit
$$;
