-- Settle attempts: the row goes or is due again, and the event is appended, only where fence and attempt are still
-- the caller's. A late worker changes nothing and reads so in the answer, which names what was settled.
--
-- Rows are locked in the order of their key, so that two settles can't deadlock. Delays come in, times are made here.
CREATE FUNCTION pusher.settle(
    p_scope smallint, p_accounts uuid[], p_deliveries uuid[], p_fences bigint[], p_attempts int[],
    p_verdicts text[], p_delays_ms bigint[], p_datas jsonb[], p_in_a_row boolean[], p_circuit int[])
RETURNS TABLE (delivery_id uuid, attempt int)
LANGUAGE plpgsql VOLATILE
-- By the primary key, row by row: see claim.
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_item record;
    v_row record;
    v_mine int[] := '{}';
    v_versions int[] := '{}';
    v_destinations uuid[] := '{}';
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    v_now := clock_timestamp();
    FOR v_item IN
        SELECT s.*, s.n::int AS place
          FROM unnest(p_accounts, p_deliveries, p_fences, p_attempts, p_verdicts, p_delays_ms, p_datas)
               WITH ORDINALITY AS s(account_id, delivery_id, fence, attempt, verdict, delay_ms, data, n)
         ORDER BY s.account_id, s.delivery_id
    LOOP
        IF v_item.verdict = 'retry' THEN
            UPDATE outbox o
               SET fence = 0, version = o.version + 1, lapses = 0,
                   refusals = CASE WHEN v_item.data ->> 'reason' = 'blocked' THEN o.refusals + 1 ELSE 0 END,
                   due_at = v_now + v_item.delay_ms * interval '1 millisecond'
             WHERE o.account_id = v_item.account_id AND o.delivery_id = v_item.delivery_id
               AND o.fence = v_item.fence AND o.attempt = v_item.attempt
            RETURNING o.version, o.destination_id INTO v_row;
        ELSE
            DELETE FROM outbox o
             WHERE o.account_id = v_item.account_id AND o.delivery_id = v_item.delivery_id
               AND o.fence = v_item.fence AND o.attempt = v_item.attempt
            RETURNING o.version + 1 AS version, o.destination_id INTO v_row;
        END IF;
        CONTINUE WHEN NOT FOUND;
        v_mine := v_mine || v_item.place;
        v_versions := v_versions || v_row.version;
        v_destinations := v_destinations || v_row.destination_id;
    END LOOP;
    IF v_mine = '{}' THEN
        RETURN;
    END IF;

    -- One pass over what is mine, in the order of the locks: for the events, and for the circuits.
    WITH mine AS (
        SELECT s.*, m.o
          FROM unnest(v_mine) WITH ORDINALITY AS m(n, o)
          JOIN unnest(p_accounts, p_deliveries, p_verdicts, p_delays_ms, p_datas, p_in_a_row)
               WITH ORDINALITY AS s(account_id, delivery_id, verdict, delay_ms, data, in_a_row, n) ON s.n = m.n)
    SELECT array_agg(m.account_id ORDER BY m.o) AS accounts, array_agg(m.delivery_id ORDER BY m.o) AS deliveries,
           array_agg(CASE m.verdict WHEN 'retry' THEN 'delivery.attempted' ELSE 'delivery.' || m.verdict END
                     ORDER BY m.o) AS types,
           array_agg(CASE m.verdict WHEN 'retry' THEN m.data || jsonb_build_object('next_attempt_at', to_char(
                         (v_now + m.delay_ms * interval '1 millisecond') AT TIME ZONE 'UTC',
                         'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ELSE m.data END ORDER BY m.o) AS datas,
           array_agg(CASE WHEN m.verdict = 'succeeded' THEN true WHEN m.data ? 'attempt' THEN false END
                     ORDER BY m.o) AS went,
           array_agg(m.in_a_row ORDER BY m.o) AS in_a_row
      INTO v_row
      FROM mine m;
    PERFORM pusher.append(p_scope, v_row.accounts, v_row.deliveries, v_versions, v_row.types, v_row.datas, NULL, NULL);
    PERFORM pusher.note(v_destinations, v_row.deliveries, v_row.went, v_row.in_a_row, p_circuit);

    RETURN QUERY SELECT p_deliveries[m.n], p_attempts[m.n] FROM unnest(v_mine) AS m(n);
END
$$;
