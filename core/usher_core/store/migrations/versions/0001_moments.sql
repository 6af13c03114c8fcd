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
