-- Accept a batch of events: one outcome per item, all of it in one commit.
--
-- Separate statements on purpose: each sees what committed before it began, so what is read after the gates are
-- locked is what the last holder of the lock left. (In one statement with CTEs, an id twice in a batch makes two
-- events and a limit of 5 admits 16.) A gate that another session holds is passed over, never waited for: its
-- items are 'busy' and come again with the next batch, while the others go on.
--
-- Outcomes: accepted, duplicate (same id, same bytes), conflict (same id, other bytes or erased), limited,
-- unauthenticated, busy.
CREATE FUNCTION pusher.accept(
    p_scope smallint, p_key_ids text[], p_token_digests bytea[], p_client_ids text[],
    p_bodies bytea[], p_salts bytea[], p_digests bytea[], p_event_ids uuid[])
RETURNS TABLE (outcome text, event_id uuid, received_at timestamptz, deliveries int,
               rate_limit int, remaining int, retry_after_ms int)
LANGUAGE plpgsql VOLATILE
-- Batches are small and tables grow: an index is always right, whatever the statistics said when it was planned.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
AS $$
#variable_conflict use_column
DECLARE
    v_epoch int := pusher.epoch(p_scope);
    v_now timestamptz;
    v_wanted uuid[];
    v_locked uuid[];
    v_accounts uuid[];  v_limits int[];  v_outcomes text[];  v_leads bigint[];
    v_events uuid[];    v_received timestamptz[];  v_deliveries int[];
    v_gates uuid[];     v_granted int[];  v_remaining int[];  v_retry_after int[];
    v_new int[];     v_datas jsonb[];
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);

    SELECT array_agg(DISTINCT t.account_id) INTO v_wanted
      FROM unnest(p_key_ids, p_token_digests) AS k(key_id, digest)
      JOIN pusher.intake_token t ON t.key_id = k.key_id AND t.digest = k.digest;
    INSERT INTO gate (account_id)
    SELECT a FROM unnest(v_wanted) AS a WHERE NOT EXISTS (SELECT FROM gate g WHERE g.account_id = a)
     ORDER BY a ON CONFLICT DO NOTHING;
    v_locked := ARRAY(
        SELECT g.account_id FROM gate g WHERE g.account_id = ANY (v_wanted) ORDER BY g.account_id
           FOR UPDATE SKIP LOCKED);

    -- Read again under the lock: the account may have gone, the token expired, the id been taken while we waited.
    SELECT array_agg(x.account_id), array_agg(x.rate_limit), array_agg(x.outcome), array_agg(x.lead),
           array_agg(x.event_id), array_agg(x.recorded_at), array_agg(x.deliveries)
      INTO v_accounts, v_limits, v_outcomes, v_leads, v_events, v_received, v_deliveries
      FROM (
        SELECT t.account_id, t.rate_limit,
               CASE WHEN t.account_id IS NULL OR g.deleted_at IS NOT NULL THEN 'unauthenticated'
                    WHEN t.account_id <> ALL (v_locked) THEN 'busy'
                    WHEN k.event_id IS NULL THEN 'new'
                    WHEN p.body = i.body THEN 'duplicate'
                    ELSE 'conflict' END AS outcome,
               min(i.n) OVER (PARTITION BY t.account_id, i.client_id) AS lead,
               k.event_id, e.recorded_at, jsonb_array_length(e.data -> 'deliveries') AS deliveries
          FROM unnest(p_key_ids, p_token_digests, p_client_ids, p_bodies)
               WITH ORDINALITY AS i(key_id, digest, client_id, body, n)
          LEFT JOIN pusher.intake_token t ON t.key_id = i.key_id AND t.digest = i.digest
          LEFT JOIN gate g ON g.account_id = t.account_id
          LEFT JOIN event_key k ON k.account_id = t.account_id AND k.client_id = i.client_id
          LEFT JOIN payload p ON p.account_id = k.account_id AND p.event_id = k.event_id
          LEFT JOIN event e ON e.account_id = k.account_id AND e.stream_id = k.event_id AND e.version = 1
         ORDER BY i.n) AS x;

    -- The limit: one reading of the clock, one write per gate. Known ids spend nothing.
    v_now := clock_timestamp();
    WITH wanted AS (
        SELECT i.account_id, min(i.rate_limit) AS rate_limit, count(*)::int AS many
          FROM unnest(v_accounts, v_limits, v_outcomes, v_leads)
               WITH ORDINALITY AS i(account_id, rate_limit, outcome, lead, n)
         WHERE i.outcome = 'new' AND i.lead = i.n
         GROUP BY i.account_id
    ), admitted AS (
        UPDATE gate SET ran_at = a.ran_at, admitted = a.admitted
          FROM (SELECT w.account_id, granting.*
                  FROM wanted w JOIN gate g USING (account_id)
                 CROSS JOIN LATERAL pusher.admit(g.ran_at, g.admitted, w.rate_limit, w.many, v_now) AS granting) AS a
         WHERE gate.account_id = a.account_id
        RETURNING a.account_id, a.granted, a.remaining, a.retry_after_ms
    )
    SELECT array_agg(a.account_id), array_agg(a.granted), array_agg(a.remaining), array_agg(a.retry_after_ms)
      INTO v_gates, v_granted, v_remaining, v_retry_after
      FROM admitted a;

    -- An item that repeats another's id within the batch shares its fate: a duplicate of what was just accepted.
    SELECT array_agg(CASE WHEN i.outcome <> 'new' THEN i.outcome
                          WHEN i.rank > g.granted THEN 'limited'
                          WHEN i.lead = i.n THEN 'accepted'
                          WHEN p_bodies[i.n] = p_bodies[i.lead] THEN 'duplicate'
                          ELSE 'conflict' END ORDER BY i.n)
      INTO v_outcomes
      FROM (SELECT u.*, dense_rank() OVER (PARTITION BY u.account_id, u.outcome = 'new' ORDER BY u.lead) AS rank
              FROM unnest(v_accounts, v_outcomes, v_leads)
                   WITH ORDINALITY AS u(account_id, outcome, lead, n)) AS i
      LEFT JOIN unnest(v_gates, v_granted) AS g(account_id, granted) ON g.account_id = i.account_id;

    v_new := array_positions(v_outcomes, 'accepted');
    INSERT INTO event_key (account_id, client_id, event_id)
    SELECT v_accounts[n], p_client_ids[n], p_event_ids[n] FROM unnest(v_new) AS n;
    INSERT INTO payload (account_id, event_id, body, salt)
    SELECT v_accounts[n], p_event_ids[n], p_bodies[n], p_salts[n] FROM unnest(v_new) AS n;

    WITH fan AS (
        SELECT i.n, v_accounts[i.n] AS account_id, p_event_ids[i.n] AS event_id, d.destination_id,
               pusher.delivery_id(p_event_ids[i.n], d.destination_id) AS delivery_id,
               octet_length(p_bodies[i.n]) AS size,
               d.paused OR coalesce(l.resting OR l.crowded, false) AS held
          FROM unnest(v_new) AS i(n)
          JOIN pusher.intake_destination d ON d.account_id = v_accounts[i.n]
          LEFT JOIN lane l ON l.destination_id = d.destination_id
    ), put AS (
        INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, held)
        SELECT f.account_id, f.delivery_id, f.event_id, f.destination_id, v_epoch, f.size, v_now, f.held
          FROM fan f ORDER BY f.n
    )
    SELECT array_agg(jsonb_build_object(
               'event_id', p_client_ids[i.n], 'size', octet_length(p_bodies[i.n]),
               'deliveries', coalesce(f.deliveries, '[]')) ORDER BY i.n)
      INTO v_datas
      FROM unnest(v_new) AS i(n)
      LEFT JOIN (SELECT n, jsonb_agg(jsonb_build_array(delivery_id, destination_id) ORDER BY delivery_id) AS deliveries
                   FROM fan GROUP BY n) AS f ON f.n = i.n;

    IF v_datas IS NOT NULL THEN
        PERFORM pusher.append(
            p_scope,
            ARRAY(SELECT v_accounts[n] FROM unnest(v_new) WITH ORDINALITY AS i(n, o) ORDER BY o),
            ARRAY(SELECT p_event_ids[n] FROM unnest(v_new) WITH ORDINALITY AS i(n, o) ORDER BY o),
            array_fill(1, ARRAY[cardinality(v_new)]),
            array_fill('event.received'::text, ARRAY[cardinality(v_new)]),
            v_datas,
            ARRAY(SELECT p_digests[n] FROM unnest(v_new) WITH ORDINALITY AS i(n, o) ORDER BY o),
            v_now);
    END IF;

    RETURN QUERY
    SELECT i.outcome,
           CASE WHEN own.o IS NULL THEN i.event_id ELSE p_event_ids[i.lead] END,
           CASE WHEN own.o IS NULL THEN i.received_at ELSE v_now END,
           CASE WHEN own.o IS NULL THEN i.deliveries ELSE jsonb_array_length(v_datas[own.o] -> 'deliveries') END,
           i.rate_limit, g.remaining, g.retry_after_ms
      FROM unnest(v_accounts, v_limits, v_outcomes, v_leads, v_events, v_received, v_deliveries)
           WITH ORDINALITY AS i(account_id, rate_limit, outcome, lead, event_id, received_at, deliveries, n)
      LEFT JOIN unnest(v_new) WITH ORDINALITY AS own(n, o) ON own.n = i.lead
      LEFT JOIN unnest(v_gates, v_remaining, v_retry_after) AS g(account_id, remaining, retry_after_ms)
             ON g.account_id = i.account_id
     ORDER BY i.n;
END
$$;
