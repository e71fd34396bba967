-- Record the attempts whose outcome nobody knows, of rows that the caller has locked: leases that lapsed (the
-- attempt begun), and rows of an older epoch (an attempt that may have begun after the dump was taken).
CREATE FUNCTION pusher.interrupt(p_scope smallint, p_accounts uuid[], p_deliveries uuid[], p_epoch int)
RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_accounts uuid[];  v_deliveries uuid[];  v_versions int[];  v_datas jsonb[];
BEGIN
    WITH lapsed AS (
        UPDATE outbox o
           SET attempt = o.attempt + CASE WHEN o.fence = 0 THEN 1 ELSE 0 END, version = o.version + 1,
               lapses = o.lapses + CASE WHEN o.epoch < p_epoch THEN 0 ELSE 1 END, fence = 0, epoch = p_epoch
          FROM unnest(p_accounts, p_deliveries) AS i(account_id, delivery_id)
         WHERE o.account_id = i.account_id AND o.delivery_id = i.delivery_id
           AND (o.fence <> 0 OR o.epoch < p_epoch)
        RETURNING o.*
    )
    SELECT array_agg(l.account_id), array_agg(l.delivery_id), array_agg(l.version),
           array_agg(jsonb_build_object('attempt', l.attempt, 'event', l.event_id, 'destination', l.destination_id,
                                        'reason', 'interrupted'))
      INTO v_accounts, v_deliveries, v_versions, v_datas
      FROM lapsed l;
    IF v_accounts IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM pusher.append(p_scope, v_accounts, v_deliveries, v_versions,
                          array_fill('delivery.interrupted'::text, ARRAY[cardinality(v_accounts)]), v_datas, NULL, NULL);
    RETURN cardinality(v_accounts);
END
$$;
