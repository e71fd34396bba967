-- After a restore: record an interrupted attempt for waiting rows of an older epoch, a slice at a time, by key. They
-- may have been sent after the dump was taken. (A claim does the same for a row that it meets before.)
-- Returns the key of the last row looked at, or no row at the end.
CREATE FUNCTION pusher.interrupt_waiting(p_scope smallint, p_account uuid, p_delivery uuid, p_most int)
RETURNS TABLE (account_id uuid, delivery_id uuid, looked_at int)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off
AS $$
DECLARE
    v_accounts uuid[];  v_deliveries uuid[];
BEGIN
    SELECT array_agg(w.account_id), array_agg(w.delivery_id) INTO v_accounts, v_deliveries
      FROM (SELECT o.account_id, o.delivery_id FROM outbox o
             WHERE (o.account_id, o.delivery_id) > (p_account, p_delivery)
             ORDER BY o.account_id, o.delivery_id LIMIT p_most FOR UPDATE) AS w;
    IF v_accounts IS NOT NULL THEN
        PERFORM pusher.interrupt(p_scope, v_accounts, v_deliveries, pusher.epoch(p_scope));
        RETURN QUERY SELECT v_accounts[cardinality(v_accounts)], v_deliveries[cardinality(v_accounts)],
                            cardinality(v_accounts);
    END IF;
END
$$;
