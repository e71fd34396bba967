-- I8: are the live logs what the history tells, up to the block that they stand at? As a rebuild compares them, but
-- without building anything; and told anew on purpose, not by the projection's own statement.
-- Rows of deleted accounts don't count: they are hidden, and go in slices.
CREATE FUNCTION pusher.check_logs(p_scope smallint DEFAULT 0)
RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_version int := (SELECT active FROM projection WHERE name = 'delivery_log');
    v_last bigint := (SELECT b.first_position + b.count - 1 FROM block b JOIN projection_checkpoint c
                          ON c.scope = b.scope AND c.block = b.number
                       WHERE c.name = 'delivery_log' AND c.version = v_version AND c.scope = p_scope);
BEGIN
    RETURN QUERY
    WITH told AS MATERIALIZED (
        SELECT p.position, e.account_id, e.stream_id, e.type, e.recorded_at, e.data
          FROM event_position p
          JOIN event e ON e.scope = p.scope AND e.epoch = p.epoch AND e.xid = p.xid AND e.seq = p.seq
         WHERE p.scope = p_scope AND p.position <= v_last
           AND (e.type IN ('event.received', 'account.deleted') OR e.type LIKE 'delivery.%')
    ), deleted AS MATERIALIZED (
        SELECT t.account_id FROM told t WHERE t.type = 'account.deleted'
    ), born AS (
        SELECT t.account_id, (d.pair ->> 0)::uuid AS delivery_id, t.stream_id AS event_id,
               (t.data ->> 'event_id') COLLATE "C" AS client_event_id, (d.pair ->> 1)::uuid AS destination_id,
               t.recorded_at AS received_at, t.position
          FROM told t CROSS JOIN LATERAL jsonb_array_elements(t.data -> 'deliveries') AS d(pair)
         WHERE t.type = 'event.received' AND t.account_id NOT IN (SELECT account_id FROM deleted)
    ), newest AS (
        SELECT DISTINCT ON (t.account_id, t.stream_id) t.* FROM told t WHERE t.type LIKE 'delivery.%'
         ORDER BY t.account_id, t.stream_id, t.position DESC
    ), tried AS (
        SELECT DISTINCT ON (t.account_id, t.stream_id) t.* FROM told t
         WHERE t.type LIKE 'delivery.%' AND t.data ? 'attempt'
         ORDER BY t.account_id, t.stream_id, t.position DESC
    ), rebuilt AS (
        SELECT b.account_id, b.delivery_id,
               ROW(b.event_id, b.client_event_id, b.destination_id, b.received_at,
                   greatest(t.recorded_at, CASE WHEN t.position IS NOT NULL THEN b.received_at END),
                   CASE WHEN n.type = 'delivery.succeeded' THEN 'success'
                        WHEN n.type IN ('delivery.exhausted', 'delivery.cancelled') THEN 'failed'
                        ELSE 'pending' END COLLATE "C",
                   coalesce((t.data ->> 'attempt')::int, 0), coalesce(n.data ->> 'reason', '') COLLATE "C",
                   (t.data ->> 'status')::int, (n.data ->> 'next_attempt_at')::timestamptz,
                   coalesce(n.position, b.position)) AS content
          FROM born b
          LEFT JOIN newest n ON n.account_id = b.account_id AND n.stream_id = b.delivery_id
          LEFT JOIN tried t ON t.account_id = b.account_id AND t.stream_id = b.delivery_id
    ), live AS (
        SELECT l.account_id, l.delivery_id,
               ROW(l.event_id, l.client_event_id, l.destination_id, l.received_at, l.processed_at, l.status,
                   l.attempts, l.reason, l.response_status, l.next_attempt_at, l.position) AS content
          FROM delivery_log l
         WHERE l.version = v_version AND l.account_id NOT IN (SELECT account_id FROM deleted)
    ), judged AS MATERIALIZED (
        SELECT delivery_id,
               CASE WHEN l.content IS NULL THEN 'the history tells of it, and the log does not'
                    WHEN r.content IS NULL THEN 'the log tells of it, and the history does not'
                    WHEN l.content IS DISTINCT FROM r.content
                        THEN format('the log says %s, the history %s', l.content, r.content)
               END AS wrong
          FROM live l FULL JOIN rebuilt r USING (account_id, delivery_id)
    )
    SELECT (SELECT count(*) FROM judged), (SELECT count(*) FROM judged j WHERE j.wrong IS NOT NULL),
           ARRAY(SELECT format('delivery %s: %s', j.delivery_id, j.wrong)
                   FROM judged j WHERE j.wrong IS NOT NULL LIMIT 10);
END
$$;
