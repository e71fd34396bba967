-- When was a destination active, and when not, as its stream tells? A deleted one is inactive for ever; that its whole
-- account was deleted stands in the account's stream alone. The times are those of the records: just before a commit.
CREATE FUNCTION pusher.activity()
RETURNS TABLE (account_id uuid, destination_id uuid, active boolean, since timestamptz, until timestamptz)
LANGUAGE sql STABLE AS $$
    WITH said AS (
        SELECT e.account_id, e.stream_id, e.version, e.recorded_at,
               e.type IN ('destination.created', 'destination.updated') AND (e.data ->> 'active')::boolean AS active
          FROM event e
         WHERE e.type IN ('destination.created', 'destination.updated', 'destination.deactivated',
                          'destination.deleted')
    ), changed AS (
        SELECT s.*, lag(s.active) OVER (PARTITION BY s.account_id, s.stream_id ORDER BY s.version) AS before FROM said s
    )
    SELECT c.account_id, c.stream_id, c.active, c.recorded_at,
           lead(c.recorded_at, 1, 'infinity') OVER (PARTITION BY c.account_id, c.stream_id ORDER BY c.version)
      FROM changed c WHERE c.active IS DISTINCT FROM c.before
$$;
