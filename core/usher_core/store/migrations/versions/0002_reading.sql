-- What filters and orders compare, and the write of a batch that keeps it.

-- Text that is not ASCII, folded by Python as unique values are: PostgreSQL before 18 has no case folding.
-- NULL where lower() says the same. Texts whose case counts are folded here too; who compares them reads
-- the document itself.
ALTER TABLE resources ADD COLUMN folded jsonb;
ALTER TABLE members ADD COLUMN folded text COLLATE "C";

-- What cursors are sealed with; it never leaves the service.
ALTER TABLE tenants ADD COLUMN cursor_key bytea NOT NULL
    DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');

-- The moment, in UTC, that an xsd:dateTime names; without an offset it is UTC, and what is finer than a
-- microsecond is cut off. It only calculates, so no text makes it fail: NULL is what is no moment. A cast would
-- round, read the session's time zone, and refuse offsets of 16 hours and more.
CREATE FUNCTION usher_moment(p_text text)
RETURNS timestamp
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
DECLARE
    v text[] := regexp_match(
        p_text,
        '^([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.]([0-9]+))?'
        '(?:Z|([+-])([0-9]{2}):([0-9]{2}))?$');
    v_offset interval;
BEGIN
    IF v IS NULL THEN
        RETURN NULL;
    END IF;
    v_offset := make_interval(hours => coalesce(v[9], '0')::integer, mins => coalesce(v[10], '0')::integer);
    RETURN timestamp '0001-01-01' + make_interval(
               years => v[1]::integer - 1, months => v[2]::integer - 1, days => v[3]::integer - 1,
               hours => v[4]::integer, mins => v[5]::integer,
               secs => (v[6] || '.' || left(coalesce(v[7], '0'), 6))::double precision)
           - CASE v[8] WHEN '-' THEN - v_offset ELSE v_offset END;
END
$$;

-- Write the result of the batch: what is given up goes before what is taken, since it may be the same.
CREATE FUNCTION usher_write_batch(p_tenant uuid, p_now timestamptz, p_rows jsonb)
RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v record;
BEGIN
    FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'cleared') AS x (id uuid) LOOP
        DELETE FROM members m
         WHERE m.tenant = p_tenant AND m.group_id = v.id
           AND NOT EXISTS (
               SELECT FROM jsonb_to_recordset(p_rows -> 'kept') AS k (group_id uuid, member_id uuid)
                WHERE k.group_id = v.id AND k.member_id = m.member_id);
    END LOOP;
    FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'left') AS x (group_id uuid, member_id uuid) LOOP
        DELETE FROM members
         WHERE tenant = p_tenant AND group_id = v.group_id AND member_id = v.member_id;
    END LOOP;
    FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'unique_removed')
                           AS x (type text, path text, folded text, id uuid) LOOP
        DELETE FROM unique_values
         WHERE tenant = p_tenant AND type = v.type AND path = v.path AND folded = v.folded AND id = v.id;
    END LOOP;
    FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'lookup_removed')
                           AS x (type text, path text, folded text, id uuid) LOOP
        DELETE FROM lookup_values
         WHERE tenant = p_tenant AND type = v.type AND path = v.path AND folded = v.folded AND id = v.id;
    END LOOP;
    FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'deleted') AS x (type text, id uuid) LOOP
        DELETE FROM resources WHERE tenant = p_tenant AND type = v.type AND id = v.id;
    END LOOP;
    FOR v IN SELECT * FROM jsonb_to_recordset(p_rows -> 'updated')
                           AS x (type text, id uuid, version bigint, document jsonb, folded jsonb,
                                 external_id text, display_name text, modified_at timestamptz) LOOP
        UPDATE resources
           SET version = v.version, document = v.document, folded = v.folded, external_id = v.external_id,
               display_name = v.display_name, modified_at = v.modified_at
         WHERE tenant = p_tenant AND type = v.type AND id = v.id;
    END LOOP;
    IF p_rows ? 'inserted' THEN
        INSERT INTO resources (tenant, type, id, version, document, folded, external_id, display_name,
                               created_at, modified_at)
        SELECT p_tenant, type, id, version, document, folded, external_id, display_name, created_at, modified_at
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
                                detail, version)
        SELECT p_tenant, accepted_at, change_id, stream_id, operation, resource_type,
               resource_id, token_id, request_id, body, p_now, status, scim_type, detail, version
          FROM jsonb_to_recordset(p_rows -> 'logged')
               AS c (accepted_at timestamptz, change_id uuid, stream_id text, operation text,
                     resource_type text, resource_id uuid, token_id text, request_id text, body jsonb,
                     status smallint, scim_type text, detail text, version bigint);
    END IF;
END
$$;

-- A worker of the version before calls this one while an upgrade is under way. It folds nothing, so what it
-- writes is compared by lower() until it is written again; it never leaves an old folded copy behind.
CREATE OR REPLACE FUNCTION usher_apply_batch(p_tenant uuid, p_now timestamptz, p_rows jsonb)
RETURNS void
LANGUAGE sql
AS $$ SELECT usher_write_batch(p_tenant, p_now, p_rows) $$;
