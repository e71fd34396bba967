-- Note how attempts went, destination by destination, and open or close circuits. `p_went`: true, false, or null
-- (no attempt). `p_in_a_row`: whether a failure counts to those in a row; it doesn't when another attempt succeeded
-- while it lasted (timeouts are slow to settle, and successes quick). `p_circuit`: failures in a row, attempts in a minute, failed percent, first and last probe in seconds.
--
-- Only a destination in trouble has a lane, so a healthy one costs one index look-up. Lanes are locked in order.
CREATE FUNCTION pusher.note(
    p_destinations uuid[], p_deliveries uuid[], p_went boolean[], p_in_a_row boolean[], p_circuit int[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_of record;
    v_lane lane;
BEGIN
    FOR v_of IN
        SELECT a.destination_id, count(*) FILTER (WHERE a.went) AS ok, count(*) FILTER (WHERE NOT a.went) AS failed,
               count(*) FILTER (WHERE NOT a.went AND a.in_a_row) AS in_a_row,
               array_agg(a.delivery_id) FILTER (WHERE NOT a.went) AS failures
          FROM unnest(p_destinations, p_deliveries, p_went, p_in_a_row)
               AS a(destination_id, delivery_id, went, in_a_row)
         WHERE a.went IS NOT NULL
         GROUP BY a.destination_id ORDER BY a.destination_id
    LOOP
        IF v_of.failed = 0 THEN
            CONTINUE WHEN NOT EXISTS (
                SELECT FROM lane l WHERE l.destination_id = v_of.destination_id
                   AND (l.resting OR l.failures > 0 OR l.window_failed > 0));
        ELSE
            INSERT INTO lane (destination_id) VALUES (v_of.destination_id) ON CONFLICT DO NOTHING;
        END IF;
        SELECT * INTO v_lane FROM lane WHERE destination_id = v_of.destination_id FOR UPDATE;
        CONTINUE WHEN NOT FOUND;  -- the destination was purged meanwhile

        IF v_lane.resting THEN
            IF v_of.ok > 0 THEN
                UPDATE lane SET resting = false, opened = 0, probe = NULL, probe_at = NULL,
                                failures = 0, window_began = v_now, window_attempts = 0, window_failed = 0
                 WHERE destination_id = v_of.destination_id;
            ELSIF v_lane.probe = ANY (v_of.failures) THEN
                UPDATE lane SET opened = opened + 1, probe = NULL,
                                probe_at = v_now + least(p_circuit[4] * 2 ^ least(opened, 30), p_circuit[5]) * interval '1 second'
                 WHERE destination_id = v_of.destination_id;
            END IF;
            CONTINUE;
        END IF;

        IF v_lane.window_began < v_now - interval '1 minute' THEN
            v_lane.window_began := v_now;
            v_lane.window_attempts := 0;
            v_lane.window_failed := 0;
        END IF;
        -- A success anywhere among them ends the row of failures.
        v_lane.failures := CASE WHEN v_of.ok > 0 THEN 0 ELSE v_lane.failures + v_of.in_a_row END;
        v_lane.window_attempts := v_lane.window_attempts + v_of.ok + v_of.failed;
        v_lane.window_failed := v_lane.window_failed + v_of.failed;
        v_lane.resting := v_lane.failures >= p_circuit[1]
            OR v_lane.window_attempts >= p_circuit[2]
               AND v_lane.window_failed * 100 > v_lane.window_attempts * p_circuit[3];
        UPDATE lane SET failures = v_lane.failures, window_began = v_lane.window_began,
                        window_attempts = v_lane.window_attempts, window_failed = v_lane.window_failed,
                        resting = v_lane.resting, opened = v_lane.resting::int, probe = NULL,
                        probe_at = CASE WHEN v_lane.resting THEN v_now + p_circuit[4] * interval '1 second' END
         WHERE destination_id = v_of.destination_id;
    END LOOP;
END
$$;
