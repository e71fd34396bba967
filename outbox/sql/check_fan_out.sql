-- I4: an event was fanned out to the destinations that were active when it was accepted, and to no other.
-- The moment of a change's commit stands nowhere: what changed within p_margin of the acceptance may be either way.
CREATE FUNCTION pusher.check_fan_out(p_margin interval)
RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH span AS MATERIALIZED (
        SELECT * FROM pusher.activity() a WHERE a.active
    ), received AS MATERIALIZED (
        SELECT e.account_id, e.stream_id AS event_id, e.recorded_at, e.data -> 'deliveries' AS deliveries
          FROM event e
         WHERE e.type = 'event.received' AND e.stream_id NOT IN (SELECT pusher.samples())
    ), promised AS MATERIALIZED (
        SELECT r.account_id, r.event_id, r.recorded_at, (d.pair ->> 1)::uuid AS destination_id
          FROM received r CROSS JOIN LATERAL jsonb_array_elements(r.deliveries) AS d(pair)
    ), wrong AS MATERIALIZED (
        SELECT r.event_id, s.destination_id, 'was active, and gets nothing' AS what
          FROM received r
          JOIN span s ON s.account_id = r.account_id
                     AND s.since <= r.recorded_at - p_margin AND s.until >= r.recorded_at + p_margin
         WHERE NOT EXISTS (SELECT FROM promised p WHERE p.account_id = r.account_id AND p.event_id = r.event_id
                              AND p.destination_id = s.destination_id)
        UNION ALL
        SELECT p.event_id, p.destination_id, 'was not active, and gets it'
          FROM promised p
         WHERE NOT EXISTS (
            SELECT FROM span s WHERE s.account_id = p.account_id AND s.destination_id = p.destination_id
               AND s.since <= p.recorded_at + p_margin AND s.until >= p.recorded_at - p_margin)
    )
    SELECT (SELECT count(*) FROM received), (SELECT count(*) FROM wrong),
           ARRAY(SELECT format('event %s: destination %s %s', w.event_id, w.destination_id, w.what)
                   FROM wrong w LIMIT 10);
END
$$;
