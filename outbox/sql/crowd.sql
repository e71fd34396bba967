-- Hold back what is too much: of each of these destinations (at their cap, so the claim passes them over), leave
-- about `p_ready` rows ready and hold a slice of the rest, so that the claim of the others does not wade through it.
-- New rows of a crowded destination are held from the start; `tend` brings them back in slices.
CREATE FUNCTION pusher.crowd(p_destinations uuid[], p_ready int, p_slice int) RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off
SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_destination uuid;
    v_held int := 0;
    v_slice int;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('pusher.tend')) THEN
        RETURN 0;
    END IF;
    FOR v_destination IN SELECT DISTINCT d FROM unnest(p_destinations) AS d ORDER BY d LOOP
        PERFORM FROM outbox o WHERE o.destination_id = v_destination AND NOT o.held OFFSET p_ready LIMIT 1;
        CONTINUE WHEN NOT FOUND;
        INSERT INTO lane (destination_id, crowded) VALUES (v_destination, true)
        ON CONFLICT (destination_id) DO UPDATE SET crowded = true WHERE NOT lane.crowded;
        WITH excess AS MATERIALIZED (
            SELECT o.account_id, o.delivery_id FROM outbox o
             WHERE o.destination_id = v_destination AND NOT o.held
             ORDER BY o.due_at OFFSET p_ready LIMIT p_slice
        ), free AS MATERIALIZED (
            SELECT o.account_id, o.delivery_id FROM excess e JOIN outbox o USING (account_id, delivery_id)
             WHERE NOT o.held AND o.fence = 0 FOR UPDATE OF o SKIP LOCKED)
        UPDATE outbox o SET held = true FROM free f
         WHERE o.account_id = f.account_id AND o.delivery_id = f.delivery_id;
        GET DIAGNOSTICS v_slice = ROW_COUNT;
        v_held := v_held + v_slice;
    END LOOP;
    RETURN v_held;
END
$$;
