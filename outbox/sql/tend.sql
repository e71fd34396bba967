-- Look after the held rows: bring back those of destinations that are well again, in slices, and one as a probe for
-- a destination that rests. Called a few times a second by every worker; whoever comes first does it.
--
-- It starts from the rows, not from the lanes: a row that was held while its lane was just closing is found here,
-- whatever the lane says. The destinations are walked by a loose index scan: one step each, however many rows; a few
-- hundred a call, from `p_after` on. The answer says where the next call goes on; nil: from the start.
-- Ready is what is due: what waits for its own time is in nobody's way. It is counted from `p_since` on (see claim).
CREATE FUNCTION pusher.tend(
    p_after uuid, p_ready int, p_lease interval, p_since timestamptz, OUT released int, OUT goes_on_after uuid)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off
SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_nil constant uuid := '00000000-0000-0000-0000-000000000000';
    v_destination uuid := p_after;
    v_lane lane;
    v_open boolean;
    v_paused boolean;
    v_row record;
    v_ready int;
    v_slice int;
BEGIN
    released := 0;
    goes_on_after := p_after;
    IF NOT pg_try_advisory_xact_lock(hashtext('pusher.tend')) THEN
        RETURN;
    END IF;
    FOR v_seen IN 1 .. 300 LOOP
        SELECT o.destination_id INTO v_destination FROM outbox o
         WHERE o.held AND o.destination_id > v_destination  -- (an OR here would read all the rows)
         ORDER BY o.destination_id LIMIT 1;
        EXIT WHEN v_destination IS NULL;
        SELECT r.active, r.paused INTO v_open, v_paused FROM pusher.route r WHERE r.destination_id = v_destination;
        SELECT l.* INTO v_lane FROM lane l WHERE l.destination_id = v_destination FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND AND EXISTS (SELECT FROM lane l WHERE l.destination_id = v_destination);  -- being noted
        IF coalesce(v_open, false) THEN
            CONTINUE WHEN v_paused;
            IF v_lane.resting THEN
                -- A probe whose lease has ended without a settle (its worker died) makes room for the next.
                CONTINUE WHEN v_now < v_lane.probe_at + CASE WHEN v_lane.probe IS NULL THEN interval '0' ELSE p_lease END;
                SELECT h.account_id, h.delivery_id INTO v_row FROM outbox h
                 WHERE h.destination_id = v_destination AND h.held
                 ORDER BY h.due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
                CONTINUE WHEN NOT FOUND;
                UPDATE outbox o SET held = false, due_at = v_now
                 WHERE o.account_id = v_row.account_id AND o.delivery_id = v_row.delivery_id;
                UPDATE lane SET probe = v_row.delivery_id, probe_at = v_now WHERE destination_id = v_destination;
                released := released + 1;
                CONTINUE;
            END IF;
        END IF;
        SELECT count(*) INTO v_ready
          FROM (SELECT FROM outbox o
                 WHERE o.destination_id BETWEEN v_destination AND v_destination AND NOT o.held AND o.due_at <= v_now
                   AND o.due_at >= coalesce(p_since, '-infinity')
                 ORDER BY o.destination_id, o.due_at LIMIT p_ready) AS r;  -- only one index has this order
        CONTINUE WHEN v_ready > p_ready / 2;
        v_slice := 0;
        FOR v_row IN
            SELECT h.account_id, h.delivery_id FROM outbox h
             WHERE h.destination_id = v_destination AND h.held
             ORDER BY h.due_at LIMIT p_ready - v_ready FOR UPDATE SKIP LOCKED
        LOOP
            UPDATE outbox o SET held = false, due_at = greatest(o.due_at, v_now)
             WHERE o.account_id = v_row.account_id AND o.delivery_id = v_row.delivery_id;
            v_slice := v_slice + 1;
        END LOOP;
        released := released + v_slice;
        IF v_lane.crowded AND v_slice < p_ready - v_ready THEN
            UPDATE lane SET crowded = false WHERE destination_id = v_destination;
        END IF;
    END LOOP;
    goes_on_after := coalesce(v_destination, v_nil);
END
$$;
