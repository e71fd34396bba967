-- I4: each delivery that an event fanned out to has the one id that it can have; its stream tells of attempts 1, 2, 3 ...
-- without a gap and goes on after an end only when asked to; and a row waits in the outbox exactly as long as it has not
-- ended, with the version and the attempt that the stream tells. (A claimed row's attempt is begun and not yet told.)
CREATE FUNCTION pusher.check_deliveries() RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_ends constant text[] := ARRAY['delivery.succeeded', 'delivery.exhausted', 'delivery.cancelled'];
BEGIN
    RETURN QUERY
    WITH promised AS (
        SELECT e.account_id, (d.pair ->> 0)::uuid AS delivery_id, e.stream_id AS event_id,
               (d.pair ->> 1)::uuid AS destination_id
          FROM event e CROSS JOIN LATERAL jsonb_array_elements(e.data -> 'deliveries') AS d(pair)
         WHERE e.type = 'event.received'
    ), step AS (
        SELECT e.account_id, e.stream_id AS delivery_id, e.version, e.type, e.data, row_number() OVER w AS place,
               count(e.data -> 'attempt') OVER w AS attempts, lag(e.type) OVER w AS before,
               lead(e.type) OVER w IS NULL AS is_last
          FROM event e WHERE e.type LIKE 'delivery.%'
        WINDOW w AS (PARTITION BY e.account_id, e.stream_id ORDER BY e.version)
    ), told AS (
        SELECT s.account_id, s.delivery_id, max(s.version) AS version, max(s.attempts)::int AS attempts,
               bool_or(s.is_last AND s.type = ANY (v_ends)) AS ended,
               (min(s.data ->> 'event'))::uuid AS event_id, (min(s.data ->> 'destination'))::uuid AS destination_id,
               min(CASE WHEN s.version <> s.place THEN 'its versions have a gap'
                        WHEN (s.data ->> 'attempt')::int <> s.attempts THEN 'its attempts are not 1, 2, 3 ...'
                        WHEN s.type IN ('delivery.attempted', 'delivery.succeeded', 'delivery.interrupted')
                             AND NOT s.data ? 'attempt' THEN 'an outcome names no attempt'
                        WHEN s.before = ANY (v_ends) AND s.type <> 'delivery.requested' THEN 'it goes on after its end'
                        WHEN s.type = 'delivery.requested' AND s.before <> ALL (v_ends)
                            THEN 'it was asked for again before its end'
                   END) AS wrong
          FROM step s GROUP BY s.account_id, s.delivery_id
    ), judged AS MATERIALIZED (
        SELECT delivery_id,
               CASE WHEN p.event_id IS NULL THEN 'no event fanned out to it'
                    WHEN delivery_id <> pusher.delivery_id(p.event_id, p.destination_id)
                        THEN 'its id is not that of its event and destination'
                    WHEN count(*) OVER (PARTITION BY account_id, delivery_id) > 1 THEN 'its event names it twice'
                    WHEN t.wrong IS NOT NULL THEN t.wrong
                    WHEN (t.event_id, t.destination_id) <> (p.event_id, p.destination_id)
                        THEN 'its stream names another event or destination'
                    WHEN o.event_id IS NULL AND t.ended THEN NULL
                    WHEN o.event_id IS NULL THEN 'it has not ended, and nobody will send it: no row waits'
                    WHEN t.ended THEN 'it has ended, and its row still waits'
                    WHEN (o.event_id, o.destination_id) <> (p.event_id, p.destination_id)
                        THEN 'its row names another event or destination'
                    WHEN o.version <> coalesce(t.version, 0) THEN 'its row is of another version than its stream'
                    WHEN o.attempt <> coalesce(t.attempts, 0) + (o.fence <> 0)::int
                        THEN 'its row counts other attempts than its stream'
               END AS wrong
          FROM promised p
          FULL JOIN told t USING (account_id, delivery_id)
          FULL JOIN (SELECT x.account_id, x.delivery_id, x.event_id, x.destination_id, x.version, x.attempt, x.fence
                       FROM outbox x) o USING (account_id, delivery_id)
    )
    SELECT (SELECT count(*) FROM judged), (SELECT count(*) FROM judged j WHERE j.wrong IS NOT NULL),
           ARRAY(SELECT format('delivery %s: %s', j.delivery_id, j.wrong)
                   FROM judged j WHERE j.wrong IS NOT NULL LIMIT 10);
END
$$;
