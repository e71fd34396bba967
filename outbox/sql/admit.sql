-- How many of `p_wanted` may be admitted now, if at most `p_limit` may be in any rolling second?
-- Pure. The history is runs: when, how many. A run counts until it is over a second old. One that is from the future
-- (the clock was set back) by over a second doesn't count, so that nobody is locked out.
-- One row. A single query, so that PostgreSQL puts it in the place of the call.
CREATE FUNCTION pusher.admit(p_ran_at timestamptz[], p_admitted int[], p_limit int, p_wanted int, p_now timestamptz)
RETURNS TABLE (granted int, remaining int, retry_after_ms int)
LANGUAGE sql IMMUTABLE AS $$
    SELECT g.granted, g.remaining,
           -- The run whose end of life makes room for one more.
           CASE WHEN g.remaining > 0 THEN 0 ELSE (
               SELECT ceil(extract(epoch FROM min(f.at) + interval '1 second' - p_now) * 1000)::int + 1
                 FROM (SELECT r.at, sum(r.many) OVER (ORDER BY r.at) AS freed
                         FROM unnest(p_ran_at || p_now, p_admitted || g.granted) AS r(at, many)
                        WHERE r.at BETWEEN p_now - interval '1 second' AND p_now + interval '1 second') AS f
                WHERE f.freed > g.used + g.granted - p_limit) END
      FROM (SELECT u.used, u.granted, greatest(p_limit - u.used - u.granted, 0) AS remaining
              FROM (SELECT s.used, least(greatest(p_limit - s.used, 0), p_wanted) AS granted
                      FROM (SELECT coalesce(sum(r.many), 0)::int AS used
                              FROM unnest(p_ran_at, p_admitted) AS r(at, many)
                             WHERE r.at BETWEEN p_now - interval '1 second' AND p_now + interval '1 second') AS s) AS u) AS g
$$;
