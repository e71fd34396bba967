-- Claim what can be sent now: ready, due, of no destination in `p_busy`; at most `p_rows` rows and about `p_bytes`.
--
-- A claimed row is due again when its lease ends, so one index finds both the waiting and the lapsed. Whoever
-- finds a lapsed row records the interrupted attempt in the same transaction that begins the next: a duplicate may
-- happen, an unrecorded one may not. `p_since` spares the scan the dead entries at the index's head, which an old
-- snapshot keeps there: it is one of the marks of `pusher.find_marks`. NULL scans all.
--
-- A row whose lease lapsed twice may be what kills workers. Such a suspect is claimed alone, one over all workers, and
-- only by a claim that asks for it (`p_suspects`): it takes no other with it, and does not stand in the others' way.
-- While its destination rests it is held like the others.
--
-- `more` says that rows were left behind that may be claimed at once. A claim whose slices were all of resting
-- destinations says so by a row that has nothing else: there may be a hundred thousand of them before the next other.
--
-- The answer is small on purpose; `pusher.contents` brings the payloads. A client that is stopped while its megabytes
-- are still on their way would keep this transaction, and its locks, open.
CREATE FUNCTION pusher.claim(
    p_scope smallint, p_rows int, p_bytes bigint, p_lease interval, p_busy uuid[], p_since timestamptz,
    p_suspects boolean)
RETURNS TABLE (account_id uuid, delivery_id uuid, event_id uuid, destination_id uuid,
               attempt int, base int, fence bigint, lapses smallint, refusals smallint,
               claimed_at timestamptz, more boolean)
LANGUAGE plpgsql VOLATILE
-- The plan must be the same with 10 rows and with 1,000,000: the index, in its order; and then row by row by the
-- primary key, since a join could have been planned from the outbox's side while that was small.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
SET enable_hashjoin = off SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_epoch int := pusher.epoch(p_scope);
    v_now timestamptz := clock_timestamp();
    v_fence bigint;
    v_accounts uuid[];  v_deliveries uuid[];  v_destinations uuid[];
    v_lapsed boolean[];  v_sizes int[];  v_held uuid[];  v_alone boolean;
    v_more boolean := false;
    v_suspect outbox;
BEGIN
    IF p_suspects AND NOT EXISTS (
        SELECT FROM outbox o WHERE o.lapses >= 2 AND o.fence <> 0 AND o.due_at > v_now
    ) THEN
        FOR v_try IN 1 .. 8 LOOP
            SELECT o.* INTO v_suspect FROM outbox o
             WHERE o.lapses >= 2 AND NOT o.held AND o.due_at <= v_now AND o.destination_id <> ALL (p_busy)
             ORDER BY o.due_at LIMIT 1 FOR UPDATE SKIP LOCKED;
            EXIT WHEN NOT FOUND;
            UPDATE outbox o SET held = true
             WHERE o.account_id = v_suspect.account_id AND o.delivery_id = v_suspect.delivery_id
               AND EXISTS (SELECT FROM lane l WHERE l.destination_id = o.destination_id
                              AND l.resting AND l.probe IS DISTINCT FROM o.delivery_id)
               AND EXISTS (SELECT FROM pusher.route r WHERE r.destination_id = o.destination_id AND r.active);
            CONTINUE WHEN FOUND;
            v_accounts := ARRAY[v_suspect.account_id];
            v_deliveries := ARRAY[v_suspect.delivery_id];
            v_lapsed := ARRAY[v_suspect.fence <> 0 OR v_suspect.epoch < v_epoch];
            EXIT;
        END LOOP;
    END IF;
    v_alone := v_accounts IS NOT NULL;

    -- A slice that was all of resting destinations leaves room for the next: a few slices at most in one claim.
    FOR v_slice IN 1 .. 8 LOOP
        EXIT WHEN v_accounts IS NOT NULL;
        SELECT array_agg(r.account_id), array_agg(r.delivery_id), array_agg(r.destination_id),
               array_agg(r.fence <> 0 OR r.epoch < v_epoch), array_agg(r.size)
          INTO v_accounts, v_deliveries, v_destinations, v_lapsed, v_sizes
          FROM (SELECT o.* FROM outbox o
                 WHERE NOT o.held AND o.due_at <= v_now AND o.due_at >= coalesce(p_since, '-infinity')
                   AND o.lapses < 2 AND o.destination_id <> ALL (p_busy)
                 ORDER BY o.due_at LIMIT p_rows FOR UPDATE SKIP LOCKED) AS r;
        IF v_accounts IS NULL THEN
            RETURN;
        END IF;
        v_more := cardinality(v_accounts) >= p_rows;

        -- A destination that rests sends nothing but its probe: its rows leave the ready ones. (Those of one that is
        -- gone or inactive stay: the worker cancels them.)
        v_held := ARRAY(
            SELECT i.delivery_id
              FROM unnest(v_deliveries, v_destinations) AS i(delivery_id, destination_id)
             CROSS JOIN LATERAL (SELECT * FROM lane l WHERE l.destination_id = i.destination_id LIMIT 1) AS l
             WHERE l.resting AND l.probe IS DISTINCT FROM i.delivery_id
               AND EXISTS (SELECT FROM pusher.route r WHERE r.destination_id = i.destination_id AND r.active));
        IF v_held <> '{}' THEN
            FOR i IN 1 .. cardinality(v_accounts) LOOP
                UPDATE outbox o SET held = true
                 WHERE o.account_id = v_accounts[i] AND o.delivery_id = v_deliveries[i]
                   AND v_deliveries[i] = ANY (v_held);
            END LOOP;
        END IF;

        SELECT array_agg(t.account_id), array_agg(t.delivery_id), array_agg(t.lapsed)
          INTO v_accounts, v_deliveries, v_lapsed
          FROM (SELECT i.*, sum(i.size) OVER (ORDER BY i.n) - i.size AS before, row_number() OVER (ORDER BY i.n) AS nth
                  FROM unnest(v_accounts, v_deliveries, v_lapsed, v_sizes)
                       WITH ORDINALITY AS i(account_id, delivery_id, lapsed, size, n)
                 WHERE i.delivery_id <> ALL (v_held)) AS t
         WHERE t.nth = 1 OR t.before + t.size <= p_bytes;
    END LOOP;
    IF v_accounts IS NULL THEN
        more := v_more;
        RETURN NEXT;
        RETURN;
    END IF;

    IF true = ANY (v_lapsed) THEN
        PERFORM pusher.interrupt(p_scope, v_accounts, v_deliveries, v_epoch);
    END IF;

    v_fence := nextval('outbox_fence');
    FOR i IN 1 .. cardinality(v_accounts) LOOP
        -- What became a suspect just now (its interruption is on record) waits for a claim that asks for it.
        UPDATE outbox o SET attempt = o.attempt + 1, fence = v_fence, due_at = v_now + p_lease
         WHERE o.account_id = v_accounts[i] AND o.delivery_id = v_deliveries[i] AND (o.lapses < 2 OR v_alone);
    END LOOP;
    RETURN QUERY
    SELECT o.account_id, o.delivery_id, o.event_id, o.destination_id,
           o.attempt, o.base, o.fence, o.lapses, o.refusals, v_now, v_more
      FROM unnest(v_accounts, v_deliveries) AS i(account_id, delivery_id)
     CROSS JOIN LATERAL (SELECT * FROM outbox o
                          WHERE o.account_id = i.account_id AND o.delivery_id = i.delivery_id LIMIT 1) AS o
     WHERE o.fence = v_fence;
END
$$;
