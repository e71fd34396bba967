-- Count the events of the positions p_first to p_last: by type, and those of deliveries by reason and by whether they tell
-- of an attempt. A handful of rows is touched, however many events there are; they are locked in one order.
CREATE FUNCTION pusher.project_delivery_total(p_scope smallint, p_version int, p_first bigint, p_last bigint)
RETURNS void LANGUAGE sql
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
    INSERT INTO delivery_total AS t (version, type, reason, attempt, number)
    SELECT p_version, h.type,
           CASE WHEN h.type = 'delivery.interrupted' THEN 'interrupted'
                WHEN h.type LIKE 'delivery.%' THEN coalesce(h.data ->> 'reason', '') ELSE '' END AS reason,
           h.type LIKE 'delivery.%' AND h.data ? 'attempt' AS attempt, count(*)
      FROM pusher.happened(p_scope, p_first, p_last) h
     GROUP BY h.type, reason, attempt
     ORDER BY h.type, reason, attempt
        ON CONFLICT (version, type, reason, attempt) DO UPDATE SET number = t.number + excluded.number
$$;
