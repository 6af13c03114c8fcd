    -- Part of two functions, which put it in: the rows of `p_rows` that a batch only adds, at `v_now`. In a function
    -- of its own it would cost a batch of one create a tenth more.
    IF p_rows ? 'inserted' THEN
        INSERT INTO resources (tenant, type, id, version, document, folded, external_id, display_name,
                               created_at, modified_at)
        SELECT p_tenant, type, id, version, document, folded, external_id, display_name,
               coalesce(created_at, v_now), coalesce(modified_at, v_now)
          FROM jsonb_to_recordset(p_rows -> 'inserted')
               AS r (type text, id uuid, version bigint, document jsonb, folded jsonb, external_id text,
                     display_name text, created_at timestamptz, modified_at timestamptz);
    END IF;
    IF p_rows ? 'unique_added' THEN
        INSERT INTO unique_values (tenant, type, path, folded, id)
        SELECT p_tenant, type, path, folded, id
          FROM jsonb_to_recordset(p_rows -> 'unique_added')
               AS v (type text, path text, folded text, id uuid);
    END IF;
    IF p_rows ? 'lookup_added' THEN
        INSERT INTO lookup_values (tenant, type, path, folded, id)
        SELECT p_tenant, type, path, folded, id
          FROM jsonb_to_recordset(p_rows -> 'lookup_added')
               AS v (type text, path text, folded text, id uuid);
    END IF;
    IF p_rows ? 'joined' THEN
        INSERT INTO members (tenant, group_id, member_id, member_type, display, folded)
        SELECT p_tenant, group_id, member_id, member_type, display, folded
          FROM jsonb_to_recordset(p_rows -> 'joined')
               AS p (group_id uuid, member_id uuid, member_type text, display text, folded text)
            ON CONFLICT (tenant, group_id, member_id) DO NOTHING;
    END IF;
    IF p_rows ? 'totals' THEN
        INSERT INTO totals (tenant, type, total)
        SELECT p_tenant, type, difference
          FROM jsonb_to_recordset(p_rows -> 'totals') AS d (type text, difference bigint)
            ON CONFLICT (tenant, type) DO UPDATE SET total = totals.total + excluded.total;
    END IF;
    IF p_rows ? 'logged' THEN
        INSERT INTO change_log (tenant, accepted_at, change_id, stream_id, operation, resource_type,
                                resource_id, token_id, request_id, body, applied_at, status, scim_type,
                                detail, version, bulk_id, bulk_index)
        SELECT p_tenant, accepted_at, change_id, stream_id, operation, resource_type,
               resource_id, token_id, request_id, body, v_now, status, scim_type, detail, version,
               bulk_id, bulk_index
          FROM jsonb_to_recordset(p_rows -> 'logged')
               AS c (accepted_at timestamptz, change_id uuid, stream_id text, operation text,
                     resource_type text, resource_id uuid, token_id text, request_id text, body jsonb,
                     status smallint, scim_type text, detail text, version bigint,
                     bulk_id uuid, bulk_index integer);
    END IF;
