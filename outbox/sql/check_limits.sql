-- I11: no rolling second has more admitted events than the account's limit, by the times that the events were given.
-- The limit is the one that the account's stream tells. A change counts from its commit, which stands nowhere: within
-- p_margin after one, the larger limit is allowed. (Nothing can be told of a clock that was set back by over a second.)
CREATE FUNCTION pusher.check_limits(p_margin interval)
RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY
    WITH span AS MATERIALIZED (
        SELECT e.account_id, (e.data ->> 'rate_limit_per_second')::int AS rate, e.recorded_at AS since,
               lead(e.recorded_at, 1, 'infinity') OVER (PARTITION BY e.account_id ORDER BY e.version) AS until
          FROM event e
         WHERE e.type IN ('account.created', 'account.updated') AND e.data ? 'rate_limit_per_second'
    ), lowest AS (
        SELECT s.account_id, min(s.rate) AS rate FROM span s GROUP BY s.account_id
    ), admitted AS MATERIALIZED (
        SELECT e.account_id, e.recorded_at,
               count(*) OVER (PARTITION BY e.account_id ORDER BY e.recorded_at
                              RANGE BETWEEN interval '1 second' PRECEDING AND CURRENT ROW) AS number
          FROM event e
         WHERE e.type = 'event.received' AND e.stream_id NOT IN (SELECT pusher.samples())
    ), over AS MATERIALIZED (
        SELECT a.account_id, a.recorded_at, a.number, max(s.rate) AS rate
          FROM (SELECT DISTINCT x.* FROM admitted x
                  JOIN lowest w ON w.account_id = x.account_id AND x.number > w.rate) a
          JOIN span s ON s.account_id = a.account_id AND s.since <= a.recorded_at AND s.until > a.recorded_at - p_margin
         GROUP BY a.account_id, a.recorded_at, a.number
        HAVING a.number > max(s.rate)
    )
    SELECT (SELECT count(*) FROM admitted), (SELECT count(*) FROM over),
           ARRAY(SELECT format('account %s: %s admitted in the second up to %s, and %s allowed',
                               o.account_id, o.number, o.recorded_at, o.rate) FROM over o LIMIT 10);
END
$$;
