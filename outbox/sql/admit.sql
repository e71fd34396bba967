-- How many of `p_wanted` may be admitted now, if at most `p_limit` may be in any rolling second?
-- Pure. The history is runs: when, how many. A run counts until it is over a second old.
-- Over 64 runs (limits far above 5/s), a run may span up to 1/32 s and counts from its end: stricter, never laxer.
-- A run from the future (a clock that was set back) counts for a second at most, so that nobody is locked out.
CREATE FUNCTION pusher.admit(
    p_ran_at timestamptz[], p_admitted int[], p_limit int, p_wanted int, p_now timestamptz,
    OUT ran_at timestamptz[], OUT admitted int[], OUT granted int, OUT remaining int, OUT retry_after_ms int)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_used int;
    v_last int;
    v_freed int := 0;
    v_run int := 1;
BEGIN
    SELECT coalesce(array_agg(r.at), '{}'), coalesce(array_agg(r.many), '{}'), coalesce(sum(r.many), 0)
      INTO ran_at, admitted, v_used
      FROM unnest(p_ran_at, p_admitted) AS r(at, many)
     WHERE r.at >= p_now - interval '1 second' AND r.at <= p_now + interval '1 second';
    granted := least(greatest(p_limit - v_used, 0), p_wanted);
    v_last := cardinality(ran_at);
    IF granted > 0 THEN
        IF v_last >= 64 AND p_now - ran_at[v_last - 1] < interval '31250 microseconds' THEN
            ran_at[v_last] := p_now;
            admitted[v_last] := admitted[v_last] + granted;
        ELSE
            ran_at := ran_at || p_now;
            admitted := admitted || granted;
        END IF;
    END IF;
    v_used := v_used + granted;
    remaining := greatest(p_limit - v_used, 0);
    retry_after_ms := 0;
    IF remaining = 0 THEN
        -- The run whose end of life makes room for one more.
        WHILE v_run < cardinality(ran_at) AND v_freed + admitted[v_run] <= v_used - p_limit LOOP
            v_freed := v_freed + admitted[v_run];
            v_run := v_run + 1;
        END LOOP;
        retry_after_ms := ceil(extract(epoch FROM ran_at[v_run] + interval '1 second' - p_now) * 1000) + 1;
    END IF;
END
$$;
