-- Remove up to p_most runs of admitted events that are over a minute old: the limit looks back for a second. Pass
-- goes_on_at to the next call: it spares the search what died before, which an old transaction may keep in the index.
-- (Rows that others are removing are passed over; should those fail, whoever begins at the start finds them.)
CREATE FUNCTION pusher.forget(p_since timestamptz, p_most int, OUT forgotten int, OUT goes_on_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_until constant timestamptz := clock_timestamp() - interval '1 minute';
BEGIN
    WITH gone AS (
        DELETE FROM admission WHERE ctid = ANY (ARRAY(
            SELECT a.ctid FROM admission a
             WHERE a.admitted > 0 AND a.ran_at >= p_since AND a.ran_at < v_until
             ORDER BY a.ran_at LIMIT p_most FOR UPDATE SKIP LOCKED))
        RETURNING ran_at
    )
    SELECT count(*), CASE WHEN count(*) < p_most THEN v_until ELSE max(g.ran_at) END INTO forgotten, goes_on_at
      FROM gone g;
END
$$;
