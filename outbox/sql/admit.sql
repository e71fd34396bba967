-- How many of `p_wanted` may be admitted now, if at most `p_limit` may be in any rolling second?
-- Pure. The history is runs: when, how many. A run counts until it is over a second old. One that is from the future
-- (the clock was set back) by over a second doesn't count, so that nobody is locked out.
CREATE FUNCTION pusher.admit(
    p_ran_at timestamptz[], p_admitted int[], p_limit int, p_wanted int, p_now timestamptz,
    OUT granted int, OUT remaining int, OUT retry_after_ms int)
LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    v_second constant interval := '1 second';
    v_used int;
BEGIN
    SELECT coalesce(sum(r.many), 0) INTO v_used FROM unnest(p_ran_at, p_admitted) AS r(at, many)
     WHERE r.at BETWEEN p_now - v_second AND p_now + v_second;
    granted := least(greatest(p_limit - v_used, 0), p_wanted);
    v_used := v_used + granted;
    remaining := greatest(p_limit - v_used, 0);
    retry_after_ms := 0;
    IF remaining = 0 THEN
        -- The run whose end of life makes room for one more.
        SELECT ceil(extract(epoch FROM min(f.at) + v_second - p_now) * 1000) + 1 INTO retry_after_ms
          FROM (SELECT r.at, sum(r.many) OVER (ORDER BY r.at) AS freed
                  FROM unnest(p_ran_at || p_now, p_admitted || granted) AS r(at, many)
                 WHERE r.at BETWEEN p_now - v_second AND p_now + v_second) AS f
         WHERE f.freed > v_used - p_limit;
    END IF;
END
$$;
