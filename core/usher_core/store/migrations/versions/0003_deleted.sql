-- What a batch must know beyond `usher_open_batch`: the tenant's configuration, whom a create may revive, and
-- what is left of deleted resources. A function of its own, for a worker of the version before still calls
-- the other one while an upgrade is under way.
CREATE FUNCTION usher_read_batch(p_tenant uuid, p_epoch bigint, p_needs jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_found  jsonb := usher_open_batch(p_tenant, p_epoch, p_needs);
    v_part   jsonb;
BEGIN
    IF v_found IS NULL THEN
        RETURN NULL;
    END IF;
    v_found := v_found || jsonb_build_object(
        'config', (SELECT config FROM tenants WHERE tenant = p_tenant));
    -- A create that revived a user is logged with that user's id, which is not the change's own.
    IF jsonb_typeof(v_found -> 'applied') = 'array' THEN
        SELECT jsonb_agg(l.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'applied') AS n (accepted_at timestamptz, change_id uuid)
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(change_id, resource_id) AS row FROM change_log
              WHERE tenant = p_tenant AND accepted_at = n.accepted_at AND change_id = n.change_id
             OFFSET 0) l;
        v_found := v_found || jsonb_build_object('named', v_part);
    END IF;
    -- Only a create whose name is taken costs more than this comparison.
    IF jsonb_typeof(v_found -> 'owners') = 'array' THEN
        SELECT jsonb_agg(r.row) INTO v_part
          FROM jsonb_array_elements(v_found -> 'owners') AS o (owner)
          JOIN jsonb_to_recordset(p_needs -> 'owners')
               AS n (type text, path text, folded text, namesake boolean)
            ON n.namesake AND n.type = o.owner ->> 0 AND n.path = o.owner ->> 1 AND n.folded = o.owner ->> 2
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(type, id, version, document, created_at, modified_at) AS row
               FROM resources WHERE tenant = p_tenant AND type = n.type AND id = (o.owner ->> 3)::uuid
             OFFSET 0) r;
        v_found := v_found || jsonb_build_object('namesakes', v_part);
    END IF;
    -- The groups of a namesake count if it is inactive, or may be by then through another change of the batch.
    IF jsonb_typeof(v_found -> 'namesakes') = 'array' THEN
        SELECT jsonb_agg(jsonb_build_array(s.namesake -> 1, (
                   SELECT coalesce(jsonb_agg(jsonb_build_array(
                              g.type, g.id, g.version, g.document, g.created_at, g.modified_at)), '[]')
                     FROM members m
                    CROSS JOIN LATERAL (
                        SELECT * FROM resources
                         WHERE tenant = p_tenant AND type = 'Group' AND id = m.group_id
                        OFFSET 0) g
                    WHERE m.tenant = p_tenant AND m.member_id = (s.namesake ->> 1)::uuid)))
          INTO v_part
          FROM jsonb_array_elements(v_found -> 'namesakes') AS s (namesake)
         WHERE s.namesake -> 3 -> 'active' = 'false'
            OR EXISTS (SELECT FROM jsonb_to_recordset(p_needs -> 'resources') AS t (id text)
                        WHERE t.id = s.namesake ->> 1);
        v_found := v_found || jsonb_build_object('namesakes_left', v_part);
    END IF;
    IF p_needs ? 'deleted' THEN
        SELECT jsonb_agg(d.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'deleted') AS n (type text, id uuid)
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(type, id, version, document, created_at, modified_at) AS row
               FROM deleted_resources WHERE tenant = p_tenant AND type = n.type AND id = n.id
             OFFSET 0) d;
        v_found := v_found || jsonb_build_object('deleted', v_part);
    END IF;
    RETURN v_found;
END
$$;
