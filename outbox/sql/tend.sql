-- Look after the held rows: bring back those of destinations that are well again, in slices, and one as a probe for
-- a destination that rests. Called a few times a second by every worker; whoever comes first does it.
--
-- It starts from the rows, not from the lanes: a row that was held while its lane was just closing is found here,
-- whatever the lane says. The destinations are walked by a loose index scan: one step each, however many rows.
CREATE FUNCTION pusher.tend(p_ready int, p_lease interval) RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off
SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_destination uuid := '00000000-0000-0000-0000-000000000000';  -- before the first
    v_lane lane;
    v_open boolean;
    v_paused boolean;
    v_probe uuid;
    v_ready int;
    v_slice int;
    v_released int := 0;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('pusher.tend')) THEN
        RETURN 0;
    END IF;
    LOOP
        SELECT o.destination_id INTO v_destination FROM outbox o
         WHERE o.held AND o.destination_id > v_destination  -- (an OR here would read all the rows)
         ORDER BY o.destination_id LIMIT 1;
        EXIT WHEN NOT FOUND;
        SELECT r.active, r.paused INTO v_open, v_paused FROM pusher.route r WHERE r.destination_id = v_destination;
        SELECT l.* INTO v_lane FROM lane l WHERE l.destination_id = v_destination FOR UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND AND EXISTS (SELECT FROM lane l WHERE l.destination_id = v_destination);  -- being noted
        IF coalesce(v_open, false) THEN
            CONTINUE WHEN v_paused;
            IF v_lane.resting THEN
                -- A probe whose lease has ended without a settle (its worker died) makes room for the next.
                CONTINUE WHEN v_now < v_lane.probe_at + CASE WHEN v_lane.probe IS NULL THEN interval '0' ELSE p_lease END;
                UPDATE outbox o SET held = false, due_at = v_now
                  FROM (SELECT h.account_id, h.delivery_id FROM outbox h
                         WHERE h.destination_id = v_destination AND h.held
                         ORDER BY h.due_at LIMIT 1 FOR UPDATE SKIP LOCKED) AS first
                 WHERE o.account_id = first.account_id AND o.delivery_id = first.delivery_id
                RETURNING o.delivery_id INTO v_probe;
                CONTINUE WHEN NOT FOUND;
                UPDATE lane SET probe = v_probe, probe_at = v_now WHERE destination_id = v_destination;
                v_released := v_released + 1;
                CONTINUE;
            END IF;
        END IF;
        SELECT count(*) INTO v_ready
          FROM (SELECT FROM outbox o WHERE o.destination_id = v_destination AND NOT o.held LIMIT p_ready) AS r;
        CONTINUE WHEN v_ready > p_ready / 2;
        WITH slice AS MATERIALIZED (
            SELECT h.account_id, h.delivery_id, h.due_at FROM outbox h
             WHERE h.destination_id = v_destination AND h.held
             ORDER BY h.due_at LIMIT p_ready - v_ready FOR UPDATE SKIP LOCKED)
        UPDATE outbox o SET held = false, due_at = greatest(o.due_at, v_now)
          FROM slice s WHERE o.account_id = s.account_id AND o.delivery_id = s.delivery_id;
        GET DIAGNOSTICS v_slice = ROW_COUNT;
        v_released := v_released + v_slice;
        IF v_lane.crowded AND v_slice < p_ready - v_ready THEN
            UPDATE lane SET crowded = false WHERE destination_id = v_destination;
        END IF;
    END LOOP;
    RETURN v_released;
END
$$;
