-- Record the attempts whose outcome nobody knows, of rows that the caller has locked: leases that lapsed (the
-- attempt begun), and rows of an older epoch (an attempt that may have begun after the dump was taken).
CREATE FUNCTION pusher.interrupt(p_scope smallint, p_accounts uuid[], p_deliveries uuid[], p_epoch int)
RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_row outbox;
    v_accounts uuid[] := '{}';  v_deliveries uuid[] := '{}';  v_versions int[] := '{}';  v_datas jsonb[] := '{}';
BEGIN
    FOR i IN 1 .. cardinality(p_accounts) LOOP
        UPDATE outbox o
           SET attempt = o.attempt + CASE WHEN o.fence = 0 THEN 1 ELSE 0 END, version = o.version + 1,
               lapses = least(o.lapses + CASE WHEN o.epoch < p_epoch THEN 0 ELSE 1 END, 100), fence = 0, epoch = p_epoch
         WHERE o.account_id = p_accounts[i] AND o.delivery_id = p_deliveries[i]
           AND (o.fence <> 0 OR o.epoch < p_epoch)
        RETURNING o.* INTO v_row;
        CONTINUE WHEN NOT FOUND;
        v_accounts := v_accounts || v_row.account_id;
        v_deliveries := v_deliveries || v_row.delivery_id;
        v_versions := v_versions || v_row.version;
        v_datas := v_datas || jsonb_build_object(
            'attempt', v_row.attempt, 'event', v_row.event_id, 'destination', v_row.destination_id,
            'reason', 'interrupted');
    END LOOP;
    IF v_accounts <> '{}' THEN
        PERFORM pusher.append(p_scope, v_accounts, v_deliveries, v_versions,
                              array_fill('delivery.interrupted'::text, ARRAY[cardinality(v_accounts)]), v_datas,
                              NULL, NULL);
    END IF;
    RETURN cardinality(v_accounts);
END
$$;
