-- Every delivery that was ever promised, with what its receiver has to see (null: the bytes are erased), and how often it
-- was asked for again.
CREATE FUNCTION pusher.list_deliveries()
RETURNS TABLE (delivery_id text, destination_id text, client_id text, sha256 text, requests bigint)
LANGUAGE sql STABLE AS $$
    WITH asked AS (
        SELECT e.account_id, e.stream_id, count(*) AS requests FROM event e
         WHERE e.type = 'delivery.requested' GROUP BY e.account_id, e.stream_id
    )
    SELECT d.pair ->> 0, d.pair ->> 1, e.data ->> 'event_id', encode(sha256(p.body), 'hex'), coalesce(a.requests, 0)
      FROM event e
      LEFT JOIN payload p ON p.account_id = e.account_id AND p.event_id = e.stream_id
     CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'deliveries') AS d(pair)
      LEFT JOIN asked a ON a.account_id = e.account_id AND a.stream_id = (d.pair ->> 0)::uuid
     WHERE e.type = 'event.received'
$$;
