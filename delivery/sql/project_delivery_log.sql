-- Events in, log rows out: apply the positions p_first to p_last to one version of the delivery log.
-- Pure: the same events give the same rows, in whatever portions they come. Of each delivery only two events count:
-- the last one (status, reason, next attempt) and the last that tells of an attempt (number, end, response); so each row
-- is written once. A delivery without a row is left alone: its account is gone. Nothing is processed before it is
-- received, also when a clock was set back in between.
-- The partition is named by EXECUTE, so that every plan is made for the tables as they are now.
CREATE FUNCTION pusher.project_delivery_log(p_scope smallint, p_version int, p_first bigint, p_last bigint)
RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
BEGIN
    INSERT INTO delivery_log_erased (version, account_id)
    SELECT DISTINCT p_version, h.account_id
      FROM pusher.happened(p_scope, p_first, p_last) h WHERE h.type = 'account.deleted'
        ON CONFLICT DO NOTHING;
    EXECUTE format($q$
        WITH happened AS (
            SELECT h.* FROM pusher.happened($1, $3, $4) h
             WHERE (h.type = 'event.received' OR h.type LIKE 'delivery.%%')
               AND NOT EXISTS (SELECT FROM delivery_log_erased x WHERE x.version = $2 AND x.account_id = h.account_id)
        ), fact AS (
            SELECT h.account_id, (d.pair ->> 0)::uuid AS delivery_id, h.position, h.type, h.recorded_at, h.data,
                   h.stream_id AS event_id, (d.pair ->> 1)::uuid AS destination_id
              FROM happened h, jsonb_array_elements(h.data -> 'deliveries') AS d(pair) WHERE h.type = 'event.received'
            UNION ALL
            SELECT h.account_id, h.stream_id, h.position, h.type, h.recorded_at, h.data, NULL, NULL
              FROM happened h WHERE h.type <> 'event.received'
        ), folded AS MATERIALIZED (
            SELECT account_id, delivery_id, max(position) AS position,
                   (array_agg(event_id) FILTER (WHERE event_id IS NOT NULL))[1] AS event_id,
                   (array_agg(destination_id) FILTER (WHERE event_id IS NOT NULL))[1] AS destination_id,
                   (array_agg(data ->> 'event_id') FILTER (WHERE event_id IS NOT NULL))[1] AS client_event_id,
                   max(recorded_at) FILTER (WHERE event_id IS NOT NULL) AS received_at,
                   (array_agg(type ORDER BY position DESC))[1] AS type,
                   (array_agg(data ORDER BY position DESC))[1] AS last,
                   (array_agg(data ORDER BY position DESC) FILTER (WHERE data ? 'attempt'))[1] AS tried,
                   (array_agg(recorded_at ORDER BY position DESC) FILTER (WHERE data ? 'attempt'))[1] AS tried_at
              FROM fact GROUP BY account_id, delivery_id
        ), judged AS MATERIALIZED (
            SELECT f.account_id, f.delivery_id, f.position, f.event_id, f.destination_id, f.client_event_id, f.received_at,
                   f.tried_at, (f.tried ->> 'attempt')::int AS attempts, (f.tried ->> 'status')::int AS response_status,
                   CASE f.type WHEN 'delivery.succeeded' THEN 'success'
                               WHEN 'delivery.exhausted' THEN 'failed'
                               WHEN 'delivery.cancelled' THEN 'failed'
                               ELSE 'pending' END AS status,
                   CASE f.type WHEN 'event.received' THEN ''
                               WHEN 'delivery.interrupted' THEN 'interrupted'
                               ELSE coalesce(f.last ->> 'reason', '') END AS reason,
                   (f.last ->> 'next_attempt_at')::timestamptz AS next_attempt_at
              FROM folded f
        ), born AS (
            INSERT INTO %1$I
                (version, account_id, delivery_id, event_id, client_event_id, destination_id, received_at,
                 processed_at, status, attempts, reason, response_status, next_attempt_at, position)
            SELECT $2, j.account_id, j.delivery_id, j.event_id, j.client_event_id, j.destination_id, j.received_at,
                   CASE WHEN j.tried_at IS NOT NULL THEN greatest(j.tried_at, j.received_at) END, j.status,
                   coalesce(j.attempts, 0), j.reason, j.response_status, j.next_attempt_at, j.position
              FROM judged j WHERE j.event_id IS NOT NULL
        )
        UPDATE %1$I l
           SET processed_at = CASE WHEN j.tried_at IS NULL THEN l.processed_at ELSE greatest(j.tried_at, l.received_at) END,
               status = j.status,
               attempts = coalesce(j.attempts, l.attempts),
               reason = j.reason,
               response_status = CASE WHEN j.attempts IS NULL THEN l.response_status ELSE j.response_status END,
               next_attempt_at = j.next_attempt_at,
               position = j.position
          FROM judged j
         WHERE j.event_id IS NULL
           AND l.version = $2 AND l.account_id = j.account_id AND l.delivery_id = j.delivery_id
        $q$, 'delivery_log_v' || p_version)
    USING p_scope, p_version, p_first, p_last;
END
$$;
