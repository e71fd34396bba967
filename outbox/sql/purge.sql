-- Work off one slice of what was ordered to go: first the waiting deliveries of a deleted or inactive destination, or
-- of a deleted account, each with its cancellation on record; then, for an account, the payloads, never while a
-- delivery waits. Claimed rows are left to their settle or lapse. Returns how many rows went; 0: nothing to do now.
CREATE FUNCTION pusher.purge(p_scope smallint, p_most int) RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_epoch int := pusher.epoch(p_scope);
    v_nil constant uuid := '00000000-0000-0000-0000-000000000000';
    v_order purge;
    v_reason text;
    v_accounts uuid[];  v_deliveries uuid[];  v_versions int[];  v_datas jsonb[];
    v_gone int;
BEGIN
    -- The oldest first, but one that waits for a claimed row must not stand in the way of the next.
    FOR v_order IN SELECT * FROM purge ORDER BY requested_at LIMIT 10 FOR UPDATE SKIP LOCKED LOOP
        IF v_order.destination_id = v_nil THEN
            v_reason := 'account_deleted';
        ELSIF EXISTS (SELECT FROM pusher.route r WHERE r.destination_id = v_order.destination_id AND r.active) THEN
            DELETE FROM purge p WHERE p.account_id = v_order.account_id AND p.destination_id = v_order.destination_id;
            CONTINUE;  -- it was made active again: what still waits is wanted
        ELSIF EXISTS (SELECT FROM pusher.route r WHERE r.destination_id = v_order.destination_id) THEN
            v_reason := 'destination_inactive';
        ELSE
            v_reason := 'destination_deleted';
        END IF;

        SELECT array_agg(w.account_id), array_agg(w.delivery_id) INTO v_accounts, v_deliveries
          FROM (SELECT o.account_id, o.delivery_id FROM outbox o
                 WHERE o.account_id = v_order.account_id AND v_order.destination_id IN (v_nil, o.destination_id)
                   AND (o.fence = 0 OR o.due_at < clock_timestamp())
                 LIMIT p_most FOR UPDATE SKIP LOCKED) AS w;
        IF v_accounts IS NOT NULL THEN
            PERFORM pusher.interrupt(p_scope, v_accounts, v_deliveries, v_epoch);
            WITH gone AS (
                DELETE FROM outbox o USING unnest(v_accounts, v_deliveries) AS i(account_id, delivery_id)
                 WHERE o.account_id = i.account_id AND o.delivery_id = i.delivery_id
                RETURNING o.*)
            SELECT array_agg(g.account_id), array_agg(g.delivery_id), array_agg(g.version + 1),
                   array_agg(jsonb_build_object('event', g.event_id, 'destination', g.destination_id, 'reason', v_reason))
              INTO v_accounts, v_deliveries, v_versions, v_datas
              FROM gone g;
            PERFORM pusher.append(
                p_scope, v_accounts, v_deliveries, v_versions,
                array_fill('delivery.cancelled'::text, ARRAY[cardinality(v_accounts)]), v_datas, NULL, NULL);
            RETURN cardinality(v_accounts);
        END IF;

        IF v_order.destination_id = v_nil THEN
            -- In-flight rows still need their payload; an accept that was under way has ended: deleting took its gate.
            CONTINUE WHEN EXISTS (SELECT FROM outbox o WHERE o.account_id = v_order.account_id);
            DELETE FROM payload p USING (
                SELECT w.account_id, w.event_id FROM payload w WHERE w.account_id = v_order.account_id LIMIT p_most) AS slice
             WHERE p.account_id = slice.account_id AND p.event_id = slice.event_id;
            GET DIAGNOSTICS v_gone = ROW_COUNT;
            IF v_gone > 0 THEN
                RETURN v_gone;
            END IF;
        ELSE
            CONTINUE WHEN EXISTS (
                SELECT FROM outbox o WHERE o.destination_id = v_order.destination_id AND NOT o.held
                UNION ALL SELECT FROM outbox o WHERE o.destination_id = v_order.destination_id AND o.held);
            DELETE FROM lane l WHERE l.destination_id = v_order.destination_id;
        END IF;
        DELETE FROM purge p WHERE p.account_id = v_order.account_id AND p.destination_id = v_order.destination_id;
    END LOOP;
    RETURN 0;
END
$$;
