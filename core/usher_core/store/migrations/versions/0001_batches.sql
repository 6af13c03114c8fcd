-- The two halves of a batch's transaction, one call each; store/batches.py calls them.
-- They run with the caller's rights: row-level security holds inside them.
--
-- Plans are cached, and statistics lag behind a table that grows by thousands of rows a second. So nothing
-- here leaves the planner a choice: each row is looked up by its whole key. A plain join was seen to read
-- all rows of the tenant instead (32 ms a batch after 3,000 users, and growing with them).

-- Take the tenant's lock, check the epoch, and read what the batch must know.
-- Each statement sees what was committed before the lock was granted. NULL: another drain has taken over.
CREATE FUNCTION usher_read_batch(p_tenant uuid, p_epoch bigint, p_needs jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_epoch  bigint;
    v_found  jsonb;
    v_part   jsonb;
BEGIN
    PERFORM set_config('usher.tenant', p_tenant::text, true);
    SELECT epoch INTO v_epoch FROM drains WHERE tenant = p_tenant FOR UPDATE;
    IF v_epoch IS DISTINCT FROM p_epoch THEN
        RETURN NULL;
    END IF;
    SELECT jsonb_build_object('now', clock_timestamp(), 'config', config, 'schemas_version', schemas_version)
      INTO v_found FROM tenants WHERE tenant = p_tenant;
    IF p_needs ? 'applied' THEN
        SELECT jsonb_agg(l.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'applied') AS n (accepted_at timestamptz, change_id uuid)
         CROSS JOIN LATERAL (
             -- A create that revived a user is logged with that user's id, which is not the change's own.
             SELECT jsonb_build_array(change_id, status, scim_type, detail, version, resource_id) AS row
               FROM change_log
              WHERE tenant = p_tenant AND accepted_at = n.accepted_at AND change_id = n.change_id
             OFFSET 0) l;
        v_found := v_found || jsonb_build_object('applied', v_part);
    END IF;
    IF p_needs ? 'resources' THEN
        SELECT jsonb_agg(r.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'resources') AS n (type text, id uuid)
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(type, id, version, document, created_at, modified_at) AS row
               FROM resources WHERE tenant = p_tenant AND type = n.type AND id = n.id
             OFFSET 0) r;
        v_found := v_found || jsonb_build_object('resources', v_part);
    END IF;
    IF p_needs ? 'owners' THEN
        SELECT jsonb_agg(u.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'owners') AS n (type text, path text, folded text)
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(type, path, folded, id) AS row FROM unique_values
              WHERE tenant = p_tenant AND type = n.type AND path = n.path AND folded = n.folded
             OFFSET 0) u;
        v_found := v_found || jsonb_build_object('owners', v_part);
    END IF;
    IF p_needs ? 'pairs' THEN
        SELECT jsonb_agg(m.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'pairs') AS n (group_id uuid, member_id uuid)
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(group_id, member_id) AS row FROM members
              WHERE tenant = p_tenant AND group_id = n.group_id AND member_id = n.member_id
             OFFSET 0) m;
        v_found := v_found || jsonb_build_object('pairs', v_part);
    END IF;
    IF p_needs ? 'targets' THEN
        SELECT jsonb_agg(r.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'targets') AS n (type text, id uuid)
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(id, type) AS row
               FROM resources WHERE tenant = p_tenant AND type = n.type AND id = n.id
             OFFSET 0) r;
        v_found := v_found || jsonb_build_object('targets', v_part);
    END IF;
    IF p_needs ? 'counted' THEN
        SELECT jsonb_agg(jsonb_build_array(
                   n.id, (SELECT count(*) FROM members WHERE tenant = p_tenant AND group_id = n.id)))
          INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'counted') AS n (id uuid);
        v_found := v_found || jsonb_build_object('counted', v_part);
    END IF;
    IF p_needs ? 'left' THEN
        SELECT jsonb_agg(r.row) INTO v_part
          FROM jsonb_to_recordset(p_needs -> 'left') AS n (id uuid)
         CROSS JOIN LATERAL (
             SELECT group_id FROM members WHERE tenant = p_tenant AND member_id = n.id
             OFFSET 0) m
         CROSS JOIN LATERAL (
             SELECT jsonb_build_array(n.id, type, id, version, document, created_at, modified_at) AS row
               FROM resources WHERE tenant = p_tenant AND type = 'Group' AND id = m.group_id
             OFFSET 0) r;
        v_found := v_found || jsonb_build_object('left', v_part);
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
         WHERE (s.namesake -> 3 -> 'active') IS DISTINCT FROM 'true'
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

-- Write the result of the batch: what is given up goes before what is taken, since it may be the same.
CREATE FUNCTION usher_write_batch(p_tenant uuid, p_now timestamptz, p_rows jsonb)
RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v     record;
    v_now ALIAS FOR p_now;
BEGIN
    IF p_rows ? 'cleared' THEN
        FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'cleared') AS x (id uuid) LOOP
            DELETE FROM members m
             WHERE m.tenant = p_tenant AND m.group_id = v.id
               AND NOT EXISTS (
                   SELECT FROM jsonb_to_recordset(p_rows -> 'kept') AS k (group_id uuid, member_id uuid)
                    WHERE k.group_id = v.id AND k.member_id = m.member_id);
        END LOOP;
    END IF;
    IF p_rows ? 'left' THEN
        FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'left') AS x (group_id uuid, member_id uuid) LOOP
            DELETE FROM members
             WHERE tenant = p_tenant AND group_id = v.group_id AND member_id = v.member_id;
        END LOOP;
    END IF;
    IF p_rows ? 'unique_removed' THEN
        FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'unique_removed')
                               AS x (type text, path text, folded text, id uuid) LOOP
            DELETE FROM unique_values
             WHERE tenant = p_tenant AND type = v.type AND path = v.path AND folded = v.folded AND id = v.id;
        END LOOP;
    END IF;
    IF p_rows ? 'lookup_removed' THEN
        FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'lookup_removed')
                               AS x (type text, path text, folded text, id uuid) LOOP
            DELETE FROM lookup_values
             WHERE tenant = p_tenant AND type = v.type AND path = v.path AND folded = v.folded AND id = v.id;
        END LOOP;
    END IF;
    IF p_rows ? 'deleted' THEN
        FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'deleted') AS x (type text, id uuid) LOOP
            DELETE FROM resources WHERE tenant = p_tenant AND type = v.type AND id = v.id;
        END LOOP;
    END IF;
    IF p_rows ? 'updated' THEN
        FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'updated')
                               AS x (type text, id uuid, version bigint, document jsonb, folded jsonb,
                                     external_id text, display_name text, modified_at timestamptz) LOOP
            UPDATE resources
               SET version = v.version, document = v.document, folded = v.folded, external_id = v.external_id,
                   display_name = v.display_name, modified_at = v.modified_at
             WHERE tenant = p_tenant AND type = v.type AND id = v.id;
        END LOOP;
    END IF;
{additions}    IF p_rows ? 'events' THEN
        PERFORM usher_write_events(p_tenant, p_now, p_rows -> 'events');
    END IF;
    IF p_rows ? 'settled' THEN
        PERFORM usher_settle(p_tenant, p_rows -> 'settled');
    END IF;
END
$$;

-- Write the result of a batch that assumed what would be read, if that is what is read: all in one round trip.
-- It may have asked whether its changes were applied before, and who holds its values; assumed is that neither
-- has an answer, and the configuration. It numbers its events where it takes the lock: one statement less.
-- NULL: another drain has taken over. `written` is false where something else was found, and nothing written.
CREATE FUNCTION usher_apply_batch(p_tenant uuid, p_epoch bigint, p_needs jsonb, p_assumed jsonb, p_rows jsonb)
RETURNS jsonb
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_events  jsonb  := p_rows -> 'events';
    v_count   bigint := coalesce(jsonb_array_length(v_events), 0);
    v_before  bigint;
    v_now     timestamptz;
    v_written boolean;
BEGIN
    PERFORM set_config('usher.tenant', p_tenant::text, true);
    UPDATE drains SET events = events + v_count
     WHERE tenant = p_tenant AND epoch = p_epoch RETURNING events - v_count INTO v_before;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT clock_timestamp(),
           jsonb_build_object('config', config, 'schemas_version', schemas_version) = p_assumed
           AND p_needs - ARRAY['applied', 'owners'] = '{}'
           AND NOT EXISTS (
               SELECT FROM jsonb_to_recordset(p_needs -> 'applied') AS n (accepted_at timestamptz, change_id uuid)
                CROSS JOIN LATERAL (
                    SELECT FROM change_log
                     WHERE tenant = p_tenant AND accepted_at = n.accepted_at AND change_id = n.change_id
                    OFFSET 0) l)
           AND NOT EXISTS (
               SELECT FROM jsonb_to_recordset(p_needs -> 'owners') AS n (type text, path text, folded text)
                CROSS JOIN LATERAL (
                    SELECT FROM unique_values
                     WHERE tenant = p_tenant AND type = n.type AND path = n.path AND folded = n.folded
                    OFFSET 0) u)
      INTO v_now, v_written FROM tenants WHERE tenant = p_tenant;
    IF v_written THEN
{additions}{events}        IF p_rows ? 'settled' THEN
            PERFORM usher_settle(p_tenant, p_rows -> 'settled');
        END IF;
    ELSE
        UPDATE drains SET events = v_before WHERE tenant = p_tenant;
    END IF;
    RETURN jsonb_build_object('written', v_written, 'now', v_now);
END
$$;
