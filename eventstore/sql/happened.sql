-- The sealed events from p_first to p_last, with their positions.
-- Each is looked up by itself (LATERAL ... LIMIT 1): a join was walked from the events' side, all of them for each position,
-- when a burst came before the first statistics of `event` and after those of `event_position`.
CREATE FUNCTION pusher.happened(p_scope smallint, p_first bigint, p_last bigint)
RETURNS TABLE ("position" bigint, account_id uuid, stream_id uuid, type text, recorded_at timestamptz, data jsonb)
LANGUAGE sql STABLE AS $$
    SELECT p.position, e.account_id, e.stream_id, e.type, e.recorded_at, e.data
      FROM event_position p
     CROSS JOIN LATERAL (SELECT * FROM event e
                          WHERE e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq LIMIT 1) e
     WHERE p.scope = p_scope AND p.position BETWEEN p_first AND p_last
$$;
