    -- Part of two functions, which put it in: `v_events` in order, numbered from `v_before`.
    INSERT INTO events (tenant, number, at, kind, change_id, resource_type, resource_id, version, detail)
    SELECT p_tenant, v_before + e.place, v_now, e.kind, e.change_id, e.resource_type, e.resource_id, e.version,
           e.detail
      FROM ROWS FROM (
               jsonb_to_recordset(v_events)
               AS (kind text, change_id uuid, resource_type text, resource_id uuid, version bigint, detail jsonb)
           ) WITH ORDINALITY
           AS e (kind, change_id, resource_type, resource_id, version, detail, place);
