-- I2, from the store alone: an account's id of an event has one event, the one that its key names.
CREATE FUNCTION pusher.check_keys() RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH received AS (
        SELECT e.account_id, e.stream_id, (e.data ->> 'event_id') COLLATE "C" AS client_id
          FROM event e WHERE e.type = 'event.received'
    ), judged AS MATERIALIZED (
        SELECT r.account_id, r.client_id, r.stream_id,
               CASE WHEN count(*) OVER (PARTITION BY r.account_id, r.client_id) > 1 THEN 'its id has several events'
                    WHEN k.event_id IS NULL THEN 'its id has no key'
                    WHEN k.event_id <> r.stream_id THEN 'its key names another event'
               END AS wrong
          FROM received r LEFT JOIN event_key k ON k.account_id = r.account_id AND k.client_id = r.client_id
    )
    SELECT (SELECT count(*) FROM judged), (SELECT count(*) FROM judged j WHERE j.wrong IS NOT NULL),
           ARRAY(SELECT format('event %s: %s', j.stream_id, j.wrong) FROM judged j WHERE j.wrong IS NOT NULL LIMIT 10);
END
$$;
