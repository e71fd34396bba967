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
-- Batches are small and tables grow: look up by index, whatever the statistics said when the plan was made. A join
-- to a table could still be planned the other way round, from a table that was small then: hence LATERAL ... LIMIT 1.
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET enable_bitmapscan = off
SET plan_cache_mode = force_generic_plan  -- planning anew costs more than a small batch
AS $$
#variable_conflict use_column
DECLARE
    v_epoch int := pusher.epoch(p_scope);
    v_now timestamptz;
    v_wanted uuid[];
    v_locked uuid[];
    v_accounts uuid[];  v_limits int[];  v_outcomes text[];  v_leads bigint[];
    v_events uuid[];    v_received timestamptz[];  v_deliveries int[];
    v_sizes int[];      v_gates jsonb;  v_ahead uuid[];  v_fanned int[];
    v_new_accounts uuid[];  v_new_events uuid[];  v_new_digests bytea[];  v_new_datas jsonb[];
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);

    SELECT array_agg(DISTINCT t.account_id) INTO v_wanted
      FROM unnest(p_key_ids, p_token_digests) AS k(key_id, digest)
     CROSS JOIN LATERAL (SELECT t.account_id FROM pusher.intake_token t
                          WHERE t.key_id = k.key_id AND t.digest = k.digest LIMIT 1) AS t;
    INSERT INTO gate (account_id)
    SELECT a FROM unnest(v_wanted) AS a WHERE NOT EXISTS (SELECT FROM gate g WHERE g.account_id = a)
     ORDER BY a ON CONFLICT DO NOTHING;
    v_locked := ARRAY(
        SELECT g.account_id FROM gate g WHERE g.account_id = ANY (v_wanted) ORDER BY g.account_id
           FOR UPDATE SKIP LOCKED);

    -- Read again under the lock: the account may have gone, the token expired, the id been taken while we waited.
    SELECT array_agg(x.account_id), array_agg(x.rate_limit), array_agg(x.outcome), array_agg(x.lead),
           array_agg(x.event_id), array_agg(x.recorded_at), array_agg(x.deliveries), array_agg(x.size)
      INTO v_accounts, v_limits, v_outcomes, v_leads, v_events, v_received, v_deliveries, v_sizes
      FROM (
        SELECT t.account_id, t.rate_limit, octet_length(i.body) AS size,
               CASE WHEN t.account_id IS NULL OR g.deleted_at IS NOT NULL THEN 'unauthenticated'
                    WHEN t.account_id <> ALL (v_locked) THEN 'busy'
                    WHEN k.event_id IS NULL THEN 'new'
                    WHEN p.body = i.body THEN 'duplicate'
                    ELSE 'conflict' END AS outcome,
               min(i.n) OVER (PARTITION BY t.account_id, i.client_id) AS lead,
               k.event_id, e.recorded_at, jsonb_array_length(e.data -> 'deliveries') AS deliveries
          FROM unnest(p_key_ids, p_token_digests, p_client_ids, p_bodies)
               WITH ORDINALITY AS i(key_id, digest, client_id, body, n)
          LEFT JOIN LATERAL (SELECT * FROM pusher.intake_token t
                              WHERE t.key_id = i.key_id AND t.digest = i.digest LIMIT 1) AS t ON true
          LEFT JOIN LATERAL (SELECT * FROM gate g WHERE g.account_id = t.account_id LIMIT 1) AS g ON true
          LEFT JOIN LATERAL (SELECT * FROM event_key k
                              WHERE k.account_id = t.account_id AND k.client_id = i.client_id LIMIT 1) AS k ON true
          LEFT JOIN LATERAL (SELECT * FROM payload p
                              WHERE p.account_id = t.account_id AND p.event_id = k.event_id LIMIT 1) AS p ON true
          LEFT JOIN LATERAL (SELECT * FROM event e WHERE e.account_id = t.account_id
                                AND e.stream_id = k.event_id AND e.version = 1 LIMIT 1) AS e ON true
         ORDER BY i.n) AS x;

    -- The limit: one reading of the clock, one run per account. Known ids spend nothing. Only the last second is read:
    -- what died before it may lie there for hours, as long as an old transaction is open.
    v_now := clock_timestamp();
    WITH wanted AS (
        SELECT i.account_id, min(i.rate_limit) AS rate_limit, count(*)::int AS events
          FROM unnest(v_accounts, v_limits, v_outcomes, v_leads)
               WITH ORDINALITY AS i(account_id, rate_limit, outcome, lead, n)
         WHERE i.outcome = 'new' AND i.lead = i.n
         GROUP BY i.account_id
    ), decided AS MATERIALIZED (
        -- Most have room for more than they want: then the sum is enough, and the runs need not be weighed.
        SELECT w.account_id, h.last, coalesce(a.granted, w.events) AS granted,
               coalesce(a.remaining, w.rate_limit - h.used - w.events) AS remaining,
               coalesce(a.retry_after_ms, 0) AS retry_after_ms
          FROM wanted w
         CROSS JOIN LATERAL (
               SELECT coalesce(sum(r.admitted) FILTER (WHERE r.ran_at <= v_now + interval '1 second'), 0)::int AS used,
                      max(r.ran_at) AS last
                 FROM admission r
                WHERE r.account_id = w.account_id AND r.ran_at >= v_now - interval '1 second') AS h
          LEFT JOIN LATERAL (
               SELECT x.*
                 FROM (SELECT array_agg(r.ran_at) AS ran_at, array_agg(r.admitted) AS admitted
                         FROM admission r
                        WHERE r.account_id = w.account_id AND r.ran_at >= v_now - interval '1 second'
                       HAVING h.used + w.events >= w.rate_limit) AS r
                CROSS JOIN pusher.admit(r.ran_at, r.admitted, w.rate_limit, w.events, v_now) AS x) AS a ON true
    ), put AS (
        INSERT INTO admission (account_id, ran_at, admitted)
        SELECT d.account_id, v_now, d.granted FROM decided d WHERE d.granted > 0
    )
    SELECT coalesce(jsonb_object_agg(d.account_id, jsonb_build_object(
               'granted', d.granted, 'remaining', d.remaining, 'retry_after_ms', d.retry_after_ms)), '{}'),
           array_agg(d.account_id) FILTER (WHERE d.last > v_now + interval '1 second')
      INTO v_gates, v_ahead
      FROM decided d;
    IF v_ahead IS NOT NULL THEN
        -- The clock was set back. It will pass these moments again, and what ran then must not count again.
        DELETE FROM admission r WHERE r.account_id = ANY (v_ahead) AND r.ran_at > v_now + interval '1 second';
    END IF;

    -- An item that repeats another's id within the batch shares its fate: a duplicate of what was just accepted.
    SELECT array_agg(CASE WHEN i.outcome <> 'new' THEN i.outcome
                          WHEN i.rank > (v_gates -> i.account_id::text -> 'granted')::int THEN 'limited'
                          WHEN i.lead = i.n THEN 'accepted'
                          WHEN p_bodies[i.n] = p_bodies[i.lead] THEN 'duplicate'
                          ELSE 'conflict' END ORDER BY i.n)
      INTO v_outcomes
      FROM (SELECT u.*, dense_rank() OVER (PARTITION BY u.account_id, u.outcome = 'new' ORDER BY u.lead) AS rank
              FROM unnest(v_accounts, v_outcomes, v_leads)
                   WITH ORDINALITY AS u(account_id, outcome, lead, n)) AS i;

    -- (From here on, no subscripts into arrays of text or bytes: each would walk the array from its start.)
    INSERT INTO event_key (account_id, client_id, event_id)
    SELECT i.account_id, i.client_id, i.event_id
      FROM unnest(v_accounts, p_client_ids, p_event_ids, v_outcomes) AS i(account_id, client_id, event_id, outcome)
     WHERE i.outcome = 'accepted';
    INSERT INTO payload (account_id, event_id, body, salt)
    SELECT i.account_id, i.event_id, i.body, i.salt
      FROM unnest(v_accounts, p_event_ids, p_bodies, p_salts, v_outcomes) AS i(account_id, event_id, body, salt, outcome)
     WHERE i.outcome = 'accepted';

    -- The fan-out is read once: the event names exactly the deliveries that get a row.
    WITH fan AS MATERIALIZED (
        SELECT i.*, d.destinations, d.deliveries, d.held
          FROM unnest(v_accounts, p_client_ids, p_event_ids, p_digests, v_sizes, v_outcomes)
               WITH ORDINALITY AS i(account_id, client_id, event_id, digest, size, outcome, n)
          LEFT JOIN LATERAL (
               SELECT array_agg(d.destination_id) AS destinations,
                      array_agg(pusher.delivery_id(i.event_id, d.destination_id)) AS deliveries,
                      array_agg(d.paused OR coalesce(l.resting OR l.crowded, false)) AS held
                 FROM pusher.intake_destination d
                 LEFT JOIN LATERAL (SELECT * FROM lane l WHERE l.destination_id = d.destination_id LIMIT 1) AS l ON true
                WHERE d.account_id = i.account_id) AS d ON i.outcome = 'accepted'
    ), put AS (
        INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, held)
        SELECT f.account_id, o.delivery_id, f.event_id, o.destination_id, v_epoch, f.size, v_now, o.held
          FROM fan f CROSS JOIN unnest(f.deliveries, f.destinations, f.held) AS o(delivery_id, destination_id, held)
    )
    SELECT array_agg(CASE f.outcome WHEN 'accepted' THEN coalesce(cardinality(f.destinations), 0) END ORDER BY f.n),
           array_agg(f.account_id ORDER BY f.n) FILTER (WHERE f.outcome = 'accepted'),
           array_agg(f.event_id ORDER BY f.n) FILTER (WHERE f.outcome = 'accepted'),
           array_agg(f.digest ORDER BY f.n) FILTER (WHERE f.outcome = 'accepted'),
           array_agg(jsonb_build_object(
               'event_id', f.client_id, 'size', f.size,
               'deliveries', (SELECT coalesce(jsonb_agg(jsonb_build_array(u.delivery, u.destination)), '[]')
                                FROM unnest(f.deliveries, f.destinations) AS u(delivery, destination)))
               ORDER BY f.n) FILTER (WHERE f.outcome = 'accepted')
      INTO v_fanned, v_new_accounts, v_new_events, v_new_digests, v_new_datas
      FROM fan f;

    IF v_new_events IS NOT NULL THEN
        PERFORM pusher.append(
            p_scope, v_new_accounts, v_new_events, array_fill(1, ARRAY[cardinality(v_new_events)]),
            array_fill('event.received'::text, ARRAY[cardinality(v_new_events)]), v_new_datas, v_new_digests, v_now);
    END IF;

    RETURN QUERY
    SELECT i.outcome,
           CASE WHEN v_fanned[i.lead] IS NULL THEN i.event_id ELSE p_event_ids[i.lead] END,
           CASE WHEN v_fanned[i.lead] IS NULL THEN i.received_at ELSE v_now END,
           coalesce(v_fanned[i.lead], i.deliveries),
           i.rate_limit,
           (v_gates -> i.account_id::text -> 'remaining')::int,
           (v_gates -> i.account_id::text -> 'retry_after_ms')::int
      FROM unnest(v_accounts, v_limits, v_outcomes, v_leads, v_events, v_received, v_deliveries)
           WITH ORDINALITY AS i(account_id, rate_limit, outcome, lead, event_id, received_at, deliveries, n)
     ORDER BY i.n;
END
$$;
