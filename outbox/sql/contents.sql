-- What clients sent: of each event its client's id and its bytes, as received. No row for an erased payload.
CREATE FUNCTION pusher.contents(p_accounts uuid[], p_events uuid[])
RETURNS TABLE (event_id uuid, client_id text, body bytea)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off SET enable_bitmapscan = off SET plan_cache_mode = force_generic_plan
AS $$
BEGIN
    RETURN QUERY
    SELECT i.event_id, e.data ->> 'event_id', p.body
      FROM unnest(p_accounts, p_events) AS i(account_id, event_id)
     CROSS JOIN LATERAL (SELECT e.data FROM event e WHERE e.account_id = i.account_id
                            AND e.stream_id = i.event_id AND e.version = 1 LIMIT 1) AS e
     CROSS JOIN LATERAL (SELECT p.body FROM payload p
                          WHERE p.account_id = i.account_id AND p.event_id = i.event_id LIMIT 1) AS p;
END
$$;
