-- Every attempt on record, by delivery and number, with the outcome that was recorded; and those that are under way.
CREATE FUNCTION pusher.list_attempts() RETURNS TABLE (delivery_id text, attempt int, outcome text)
LANGUAGE sql STABLE AS $$
    SELECT e.stream_id::text, (e.data ->> 'attempt')::int, e.type
      FROM event e WHERE e.type LIKE 'delivery.%' AND e.data ? 'attempt'
    UNION ALL
    SELECT o.delivery_id::text, o.attempt, 'under way' FROM outbox o WHERE o.fence <> 0
$$;
