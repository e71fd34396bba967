-- I1, from the store alone: each received event has its key and its bytes, with the digest and the size that it names;
-- each key has its event. Bytes are missing only where the account was deleted.
-- (All `check_*`: one row with how many were looked at, how many are wrong, and up to ten of these. They read, no more.)
CREATE FUNCTION pusher.check_contents() RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH judged AS MATERIALIZED (
        SELECT coalesce(e.account_id, k.account_id) AS account_id, coalesce(e.stream_id, k.event_id) AS event_id,
               CASE WHEN e.stream_id IS NULL THEN 'its id is taken, and there is no event'
                    WHEN k.client_id <> (e.data ->> 'event_id') COLLATE "C" THEN 'its key has another id'
                    WHEN p.event_id IS NULL AND NOT EXISTS (
                        SELECT FROM event d WHERE d.account_id = e.account_id AND d.stream_id = e.account_id
                           AND d.type = 'account.deleted') THEN 'its bytes are gone, and its account is not'
                    WHEN sha256(p.salt || p.body) <> e.payload_digest THEN 'its bytes are not those of its digest'
                    WHEN octet_length(p.body) <> (e.data ->> 'size')::int THEN 'its bytes are not of its size'
               END AS wrong
          FROM (SELECT * FROM event WHERE type = 'event.received') e
          FULL JOIN event_key k ON k.account_id = e.account_id AND k.event_id = e.stream_id
          LEFT JOIN payload p ON p.account_id = e.account_id AND p.event_id = e.stream_id
    )
    SELECT (SELECT count(*) FROM judged), (SELECT count(*) FROM judged j WHERE j.wrong IS NOT NULL),
           ARRAY(SELECT format('event %s: %s', j.event_id, j.wrong) FROM judged j WHERE j.wrong IS NOT NULL LIMIT 10);
END
$$;
