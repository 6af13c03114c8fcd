-- The operators' paths: whose turn it is to write, and what all statuses are made of in one look.
CREATE FUNCTION usher_begin_term(p_holder text)
RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
    UPDATE operator_terms SET term = term + 1, holder = p_holder, begun_at = clock_timestamp() RETURNING term
$$;
-- First in each of an operator's transactions. The lock makes the next term wait for those that have begun.
CREATE FUNCTION usher_insist_on_term(p_term bigint)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
DECLARE
    v_term bigint;
BEGIN
    SELECT term INTO v_term FROM operator_terms FOR SHARE;
    IF v_term IS DISTINCT FROM p_term THEN
        RAISE EXCEPTION 'the term % of this operator is over, another one has the term %', p_term, v_term
              USING ERRCODE = 'UO001';
    END IF;
END
$$;
-- Of every living tenant, or of one.
CREATE FUNCTION usher_figures(p_tenant uuid)
RETURNS TABLE (
    tenant uuid, users bigint, groups bigint, dead_letters bigint, last_change timestamptz, used jsonb
)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {schema}, pg_temp
AS $$
    SELECT t.tenant,
           coalesce((SELECT c.total FROM totals c WHERE c.tenant = t.tenant AND c.type = 'User'), 0),
           coalesce((SELECT c.total FROM totals c WHERE c.tenant = t.tenant AND c.type = 'Group'), 0),
           (SELECT count(*) FROM dead_letters d WHERE d.tenant = t.tenant),
           (SELECT l.applied_at FROM change_log l WHERE l.tenant = t.tenant
             ORDER BY l.accepted_at DESC LIMIT 1),
           (SELECT coalesce(jsonb_object_agg(k.token_id, k.last_used_at), '{}') FROM tokens k
             WHERE k.tenant = t.tenant AND k.revoked_at IS NULL AND k.last_used_at IS NOT NULL)
      FROM tenants t
     WHERE t.deleted_at IS NULL AND (p_tenant IS NULL OR t.tenant = p_tenant)
$$;
