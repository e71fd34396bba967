-- Hold back what is too much: of each of these destinations (at their cap, so the claim passes them over), leave
-- about `p_ready` rows ready and hold a slice of the rest, so that the claim of the others does not wade through it.
-- What waits for its own time is not counted, nor what is older than `p_since` (see claim). New rows of a crowded destination are held from the start; `tend` brings
-- them back in slices.
CREATE FUNCTION pusher.crowd(p_destinations uuid[], p_ready int, p_slice int, p_since timestamptz) RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off
SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_destination uuid;
    v_held int := 0;
    v_row record;
    v_locked record;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('pusher.tend')) THEN
        RETURN 0;
    END IF;
    FOR v_destination IN SELECT DISTINCT d FROM unnest(p_destinations) AS d ORDER BY d LOOP
        PERFORM FROM outbox o
          WHERE o.destination_id BETWEEN v_destination AND v_destination AND NOT o.held AND o.due_at <= v_now
            AND o.due_at >= coalesce(p_since, '-infinity')
          ORDER BY o.destination_id, o.due_at OFFSET p_ready LIMIT 1;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO lane (destination_id, crowded) VALUES (v_destination, true)
        ON CONFLICT (destination_id) DO UPDATE SET crowded = true WHERE NOT lane.crowded;
        FOR v_row IN
            SELECT o.account_id, o.delivery_id FROM outbox o
             WHERE o.destination_id BETWEEN v_destination AND v_destination AND NOT o.held AND o.due_at <= v_now
               AND o.due_at >= coalesce(p_since, '-infinity')
             ORDER BY o.destination_id, o.due_at OFFSET p_ready LIMIT p_slice
        LOOP
            -- Locked one by one, not in the search: that would lock what OFFSET passes over, too. By the key alone:
            -- with NOT held beside it, a plan made while the outbox was empty walked all ready rows for each of them.
            SELECT o.held, o.fence INTO v_locked FROM outbox o
             WHERE o.account_id = v_row.account_id AND o.delivery_id = v_row.delivery_id FOR UPDATE SKIP LOCKED;
            CONTINUE WHEN NOT FOUND OR v_locked.held OR v_locked.fence <> 0;
            UPDATE outbox o SET held = true WHERE o.account_id = v_row.account_id AND o.delivery_id = v_row.delivery_id;
            v_held := v_held + 1;
        END LOOP;
    END LOOP;
    RETURN v_held;
END
$$;
