-- I10: nothing has been due for longer than p_patience: no row that is ready, none whose lease has ended, and no probe
-- of a resting destination for which rows wait. What waits for its schedule, or for a destination that rests or is
-- paused, is not due.
CREATE FUNCTION pusher.check_due(p_patience interval, p_lease interval)
RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_before timestamptz := now() - p_patience;  -- of the snapshot, which may be minutes old by now
BEGIN
    RETURN QUERY
    WITH late AS MATERIALIZED (
        SELECT format('delivery %s: %s since %s', o.delivery_id,
                      CASE WHEN o.fence = 0 THEN 'due' ELSE 'its lease is over' END, o.due_at) AS what
          FROM outbox o WHERE NOT o.held AND o.due_at < v_before
        UNION ALL
        SELECT format('destination %s: its probe is due since %s', l.destination_id, l.probe_at)
          FROM lane l JOIN pusher.route r ON r.destination_id = l.destination_id AND r.active AND NOT r.paused
         WHERE l.resting AND l.probe_at + CASE WHEN l.probe IS NULL THEN interval '0' ELSE p_lease END < v_before
           AND EXISTS (SELECT FROM outbox o WHERE o.destination_id = l.destination_id AND o.held)
    )
    SELECT (SELECT count(*) FROM outbox), (SELECT count(*) FROM late), ARRAY(SELECT l.what FROM late l LIMIT 10);
END
$$;
