-- What is accepted before its turn: changes that must outlive a loss of the queue, and revocations that hold
-- from their acceptance on. The functions run with the caller's rights: row-level security holds inside them.

-- Accept a change for good: it keeps its number, its fences stand, and the events of what they take away are
-- written, all under the tenant's lock, so that no batch falls in between. It may be called again when the answer
-- to a commit was lost: what stands in the inbox, or had its turn since, is not accepted twice.
-- NULL: there is no such tenant any more.
CREATE FUNCTION usher_accept(
    p_tenant uuid, p_change_id uuid, p_accepted_at timestamptz, p_entry bytea, p_fences jsonb, p_events jsonb)
RETURNS bigint
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v_number bigint;
BEGIN
    PERFORM set_config('usher.tenant', p_tenant::text, true);
    UPDATE drains d SET accepted = d.accepted + 1
      FROM tenants t
     WHERE d.tenant = p_tenant AND t.tenant = p_tenant AND t.deleted_at IS NULL
    RETURNING d.accepted INTO v_number;
    IF v_number IS NULL
       OR EXISTS (SELECT FROM inbox WHERE tenant = p_tenant AND change_id = p_change_id)
       OR EXISTS (SELECT FROM change_log
                   WHERE tenant = p_tenant AND accepted_at = p_accepted_at AND change_id = p_change_id) THEN
        RETURN v_number;
    END IF;
    INSERT INTO inbox (tenant, number, change_id, accepted_at, entry)
    VALUES (p_tenant, v_number, p_change_id, p_accepted_at, p_entry);
    INSERT INTO fences (tenant, subject, group_id, change_id, accepted_at)
    SELECT p_tenant, subject, group_id, change_id, p_accepted_at
      FROM jsonb_to_recordset(p_fences) AS f (subject uuid, group_id uuid, change_id uuid)
        ON CONFLICT DO NOTHING;
    PERFORM usher_write_events(p_tenant, clock_timestamp(), p_events);
    RETURN v_number;
END
$$;

-- Number events and write them. Whoever calls holds the tenant's lock, so that they become visible in the order
-- of their numbers and a reader by number misses none.
CREATE FUNCTION usher_write_events(p_tenant uuid, p_now timestamptz, p_events jsonb)
RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    v_count  bigint := jsonb_array_length(p_events);
    v_before bigint;
    v_now    ALIAS FOR p_now;
    v_events ALIAS FOR p_events;
BEGIN
    IF coalesce(v_count, 0) = 0 THEN
        RETURN;
    END IF;
    UPDATE drains SET events = events + v_count WHERE tenant = p_tenant RETURNING events - v_count INTO v_before;
{events}END
$$;

-- The turn of accepted changes has come: they leave the inbox, and their fences fall, but for those of changes
-- that became dead letters.
CREATE FUNCTION usher_settle(p_tenant uuid, p_changes jsonb)
RETURNS void
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
DECLARE
    v record;
BEGIN
    FOR v IN SELECT * FROM jsonb_to_recordset(p_changes) AS c (change_id uuid, lifts boolean) LOOP
        DELETE FROM inbox WHERE tenant = p_tenant AND change_id = v.change_id;
        IF v.lifts THEN
            DELETE FROM fences WHERE tenant = p_tenant AND change_id = v.change_id;
        END IF;
    END LOOP;
END
$$;

-- The state that counts: what the store holds, with everything taken away that a fence stands for. Every read,
-- filter and check goes through these two. A version that is shown while a fence stands is told apart by
-- `fenced`.
CREATE VIEW effective_resources WITH (security_invoker = true) AS
SELECT r.tenant, r.type, r.id, r.version,
       CASE WHEN r.type = 'User' AND EXISTS (
                SELECT FROM fences f
                 WHERE f.tenant = r.tenant AND f.subject = r.id
                   AND f.group_id = '00000000-0000-0000-0000-000000000000')
            THEN jsonb_set(r.document, '{active}', 'false') ELSE r.document END AS document,
       r.external_id, r.display_name, r.created_at, r.modified_at, r.folded,
       CASE r.type
            WHEN 'User' THEN EXISTS (
                SELECT FROM fences f
                 WHERE f.tenant = r.tenant AND f.subject = r.id
                   AND f.group_id = '00000000-0000-0000-0000-000000000000')
            WHEN 'Group' THEN EXISTS (
                SELECT FROM fences f
                 WHERE f.tenant = r.tenant AND f.group_id = r.id)
            ELSE false END AS fenced
  FROM resources r;
CREATE VIEW effective_members WITH (security_invoker = true) AS
SELECT m.tenant, m.group_id, m.member_id, m.member_type, m.display, m.folded
  FROM members m
 WHERE NOT EXISTS (
           SELECT FROM fences f
            WHERE f.tenant = m.tenant AND f.subject = m.member_id AND f.group_id = m.group_id);
GRANT SELECT ON effective_resources, effective_members TO usher_app;
