-- The sealed events from p_first to p_last, with their positions.
CREATE FUNCTION pusher.happened(p_scope smallint, p_first bigint, p_last bigint)
RETURNS TABLE ("position" bigint, account_id uuid, stream_id uuid, type text, recorded_at timestamptz, data jsonb)
LANGUAGE sql STABLE AS $$
    SELECT p.position, e.account_id, e.stream_id, e.type, e.recorded_at, e.data
      FROM event_position p
      JOIN event e ON e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq
     WHERE p.scope = p_scope AND p.position BETWEEN p_first AND p_last
$$;
