-- Settle attempts: the row goes or is due again, and the event is appended, only where fence and attempt are still
-- the caller's. A late worker changes nothing and reads so in the answer, which names what was settled.
--
-- Rows are locked in the order of their key, so that two settles can't deadlock. Delays come in, times are made here.
CREATE FUNCTION pusher.settle(
    p_scope smallint, p_accounts uuid[], p_deliveries uuid[], p_fences bigint[], p_attempts int[],
    p_verdicts text[], p_delays_ms bigint[], p_datas jsonb[], p_circuit int[])
RETURNS TABLE (delivery_id uuid, attempt int)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
SET plan_cache_mode = force_generic_plan
AS $$
#variable_conflict use_column
DECLARE
    v_now timestamptz;
    v_mine int[];
    v_versions int[];
    v_destinations uuid[];
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    SELECT array_agg(l.n), array_agg(l.version + 1), array_agg(l.destination_id)
      INTO v_mine, v_versions, v_destinations
      FROM (SELECT s.n::int, o.version, o.destination_id
              FROM unnest(p_accounts, p_deliveries, p_fences, p_attempts)
                   WITH ORDINALITY AS s(account_id, delivery_id, fence, attempt, n)
              JOIN outbox o ON o.account_id = s.account_id AND o.delivery_id = s.delivery_id
             WHERE o.fence = s.fence AND o.attempt = s.attempt
             ORDER BY o.account_id, o.delivery_id FOR UPDATE OF o) AS l;
    IF v_mine IS NULL THEN
        RETURN;
    END IF;
    v_now := clock_timestamp();

    DELETE FROM outbox o USING unnest(v_mine) AS m(n)
     WHERE o.account_id = p_accounts[m.n] AND o.delivery_id = p_deliveries[m.n] AND p_verdicts[m.n] <> 'retry';
    UPDATE outbox o
       SET fence = 0, version = o.version + 1, lapses = 0,
           refusals = CASE WHEN p_datas[m.n] ->> 'reason' = 'blocked' THEN o.refusals + 1 ELSE 0 END,
           due_at = v_now + p_delays_ms[m.n] * interval '1 millisecond'
      FROM unnest(v_mine) AS m(n)
     WHERE o.account_id = p_accounts[m.n] AND o.delivery_id = p_deliveries[m.n] AND p_verdicts[m.n] = 'retry';

    PERFORM pusher.append(
        p_scope, r.accounts, r.deliveries, v_versions, r.types, r.datas, NULL, NULL)
       FROM (SELECT array_agg(p_accounts[m.n] ORDER BY m.o) AS accounts,
                    array_agg(p_deliveries[m.n] ORDER BY m.o) AS deliveries,
                    array_agg('delivery.' || CASE p_verdicts[m.n] WHEN 'retry' THEN 'attempted' ELSE p_verdicts[m.n] END
                              ORDER BY m.o) AS types,
                    array_agg(CASE p_verdicts[m.n] WHEN 'retry' THEN p_datas[m.n] || jsonb_build_object(
                                  'next_attempt_at', to_char(
                                      (v_now + p_delays_ms[m.n] * interval '1 millisecond') AT TIME ZONE 'UTC',
                                      'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'))
                              ELSE p_datas[m.n] END ORDER BY m.o) AS datas
               FROM unnest(v_mine) WITH ORDINALITY AS m(n, o)) AS r;

    PERFORM pusher.note(v_destinations, ARRAY(SELECT p_deliveries[m.n] FROM unnest(v_mine) WITH ORDINALITY AS m(n, o) ORDER BY o),
                        ARRAY(SELECT CASE WHEN p_verdicts[m.n] = 'succeeded' THEN true
                                          WHEN p_datas[m.n] ? 'attempt' THEN false END
                                FROM unnest(v_mine) WITH ORDINALITY AS m(n, o) ORDER BY o),
                        p_circuit);

    RETURN QUERY SELECT p_deliveries[m.n], p_attempts[m.n] FROM unnest(v_mine) AS m(n);
END
$$;
