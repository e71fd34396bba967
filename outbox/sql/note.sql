-- Note how attempts went, destination by destination, and open or close circuits. `p_went`: true, false, or null
-- (no attempt). `p_circuit`: failures in a row, attempts in a minute, failed percent, first and last probe in seconds.
--
-- Only a destination in trouble has a lane, so a healthy one costs one index look-up. Lanes are locked in order.
CREATE FUNCTION pusher.note(p_destinations uuid[], p_deliveries uuid[], p_went boolean[], p_circuit int[])
RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    INSERT INTO lane (destination_id)
    SELECT DISTINCT a.destination_id FROM unnest(p_destinations, p_went) AS a(destination_id, went)
     WHERE NOT a.went AND NOT EXISTS (SELECT FROM lane l WHERE l.destination_id = a.destination_id)
     ORDER BY 1 ON CONFLICT DO NOTHING;
    PERFORM FROM lane WHERE destination_id = ANY (p_destinations) ORDER BY destination_id FOR UPDATE;
    IF NOT FOUND THEN
        RETURN;
    END IF;

    WITH went AS (
        SELECT a.destination_id, count(*) FILTER (WHERE a.went) AS ok, count(*) FILTER (WHERE NOT a.went) AS failed,
               array_agg(a.delivery_id) FILTER (WHERE NOT a.went) AS failures
          FROM unnest(p_destinations, p_deliveries, p_went) AS a(destination_id, delivery_id, went)
         WHERE a.went IS NOT NULL
         GROUP BY a.destination_id
    ), counted AS (
        SELECT w.*, l.resting,
               l.resting AND l.probe = ANY (w.failures) AND w.ok = 0 AS probe_failed,
               -- A success anywhere in the batch ends the row of failures.
               CASE WHEN w.ok > 0 THEN 0 ELSE l.failures + w.failed END AS failures_in_a_row,
               fresh.began, fresh.attempts + w.ok + w.failed AS attempts, fresh.failed + w.failed AS window_failed
          FROM went w JOIN lane l USING (destination_id)
         CROSS JOIN LATERAL (
               SELECT CASE WHEN young.is THEN l.window_began ELSE v_now END AS began,
                      CASE WHEN young.is THEN l.window_attempts ELSE 0 END AS attempts,
                      CASE WHEN young.is THEN l.window_failed ELSE 0 END AS failed
                 FROM (SELECT l.window_began > v_now - interval '1 minute' AS is) AS young) AS fresh
         WHERE w.failed > 0 OR l.resting OR l.failures > 0 OR l.window_failed > 0
    ), judged AS (
        SELECT c.*, NOT c.resting AND (
                   c.failures_in_a_row >= p_circuit[1]
                   OR c.attempts >= p_circuit[2] AND c.window_failed * 100 > c.attempts * p_circuit[3]) AS opens,
               c.resting AND c.ok > 0 AS closes
          FROM counted c
    )
    UPDATE lane l
       SET failures = j.failures_in_a_row,
           window_began = CASE WHEN j.closes OR j.opens THEN v_now ELSE j.began END,
           window_attempts = CASE WHEN j.closes OR j.opens THEN 0 ELSE j.attempts END,
           window_failed = CASE WHEN j.closes OR j.opens THEN 0 ELSE j.window_failed END,
           resting = j.opens OR (l.resting AND NOT j.closes),
           opened = CASE WHEN j.closes THEN 0 WHEN j.opens OR j.probe_failed THEN l.opened + 1 ELSE l.opened END,
           probe = CASE WHEN j.opens OR j.closes OR j.probe_failed THEN NULL ELSE l.probe END,
           probe_at = CASE WHEN j.closes THEN NULL
                           WHEN j.opens THEN v_now + p_circuit[4] * interval '1 second'
                           WHEN j.probe_failed
                           THEN v_now + least(p_circuit[4] * 2 ^ least(l.opened, 30), p_circuit[5]) * interval '1 second'
                           ELSE l.probe_at END
      FROM judged j WHERE l.destination_id = j.destination_id;
END
$$;
