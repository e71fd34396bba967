-- Give claimed rows back unsent: the attempt was not begun, its number will be used again, no event tells of it.
CREATE FUNCTION pusher.release(
    p_accounts uuid[], p_deliveries uuid[], p_fences bigint[], p_attempts int[], p_held boolean)
RETURNS void
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_item record;
BEGIN
    FOR v_item IN
        SELECT * FROM unnest(p_accounts, p_deliveries, p_fences, p_attempts)
                      AS s(account_id, delivery_id, fence, attempt)
         ORDER BY s.account_id, s.delivery_id
    LOOP
        UPDATE outbox o SET attempt = o.attempt - 1, fence = 0, due_at = clock_timestamp(), held = p_held
         WHERE o.account_id = v_item.account_id AND o.delivery_id = v_item.delivery_id
           AND o.fence = v_item.fence AND o.attempt = v_item.attempt;
    END LOOP;
END
$$;
