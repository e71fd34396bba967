-- Destinations (of p_only, or of all if NULL) with held rows that nothing holds: neither paused nor resting, and with
-- none ready before them. `tend` brings such rows back a few times a second; since when they wait, no row tells.
CREATE FUNCTION pusher.held_for_nothing(p_only uuid[]) RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT h.destination_id
      FROM (SELECT DISTINCT o.destination_id FROM outbox o
             WHERE o.held AND (p_only IS NULL OR o.destination_id = ANY (p_only))) h
      LEFT JOIN pusher.route r ON r.destination_id = h.destination_id
      LEFT JOIN lane l ON l.destination_id = h.destination_id
     WHERE NOT coalesce(r.active AND (r.paused OR l.resting), false)
       AND NOT EXISTS (SELECT FROM outbox o WHERE o.destination_id = h.destination_id AND NOT o.held
                          AND o.due_at <= clock_timestamp())
     LIMIT 10
$$;
