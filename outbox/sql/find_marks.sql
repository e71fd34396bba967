-- Where must a scan of the ready rows begin? At the oldest that is due (`oldest`), or, while the destinations in `p_busy`
-- are passed over, at the oldest that is due of any other (`oldest_free`). With none it is now.
--
-- Under an old snapshot the entries of all that was sent since stay in the index, in front of the rows that live. This
-- walks them, once for many claims; `seconds` says how long it took. With `p_since`, an `oldest` of before, it goes on
-- from there: quickly, but what is older stays as unseen as it was. Suspects are left out: claims find them apart, and
-- they may wait for long.
--
-- With `p_under_way` (the busy, and all others that are being sent to) it looks behind their piles, however many rows:
-- `newcomer` is the oldest that is due of a destination that nothing is being sent to; NULL: there is none.
CREATE FUNCTION pusher.find_marks(
    p_busy uuid[], p_under_way uuid[], p_since timestamptz,
    OUT oldest timestamptz, OUT oldest_free timestamptz, OUT newcomer timestamptz, OUT seconds float8)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    -- What is due later is not older than either mark. The lease that a claim writes meanwhile ends later, too.
    v_now timestamptz := clock_timestamp();
BEGIN
    SELECT o.due_at INTO oldest FROM outbox o
     WHERE NOT o.held AND o.due_at <= v_now AND o.due_at >= coalesce(p_since, '-infinity') AND o.lapses < 2
     ORDER BY o.due_at LIMIT 1;
    oldest := coalesce(oldest, v_now);
    SELECT o.due_at INTO oldest_free FROM outbox o
     WHERE NOT o.held AND o.due_at <= v_now AND o.due_at >= oldest AND o.lapses < 2
       AND o.destination_id <> ALL (p_busy)
     ORDER BY o.due_at LIMIT 1;
    oldest_free := coalesce(oldest_free, v_now);
    IF p_under_way IS NOT NULL THEN
        SELECT o.due_at INTO newcomer FROM outbox o
         WHERE NOT o.held AND o.due_at <= v_now AND o.due_at >= oldest_free AND o.lapses < 2
           AND o.destination_id <> ALL (p_under_way)
         ORDER BY o.due_at LIMIT 1;
    END IF;
    seconds := extract(epoch FROM clock_timestamp() - v_now);
END
$$;
