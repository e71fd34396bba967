-- Give claimed rows back unsent: the attempt was not begun, its number will be used again, no event tells of it.
CREATE FUNCTION pusher.release(
    p_accounts uuid[], p_deliveries uuid[], p_fences bigint[], p_attempts int[], p_held boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_mine int[];
BEGIN
    SELECT array_agg(l.n) INTO v_mine
      FROM (SELECT s.n::int FROM unnest(p_accounts, p_deliveries, p_fences, p_attempts)
                   WITH ORDINALITY AS s(account_id, delivery_id, fence, attempt, n)
              JOIN outbox o ON o.account_id = s.account_id AND o.delivery_id = s.delivery_id
             WHERE o.fence = s.fence AND o.attempt = s.attempt
             ORDER BY o.account_id, o.delivery_id FOR UPDATE OF o) AS l;
    UPDATE outbox o SET attempt = o.attempt - 1, fence = 0, due_at = clock_timestamp(), held = p_held
      FROM unnest(v_mine) AS m(n)
     WHERE o.account_id = p_accounts[m.n] AND o.delivery_id = p_deliveries[m.n];
END
$$;
