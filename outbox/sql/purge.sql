-- Work off one slice of what was ordered to go: first the waiting deliveries of a deleted or inactive destination, or
-- of a deleted account, each with its cancellation on record; then, for an account, the payloads, never while a
-- delivery waits. Claimed rows are left to their settle or lapse. Returns how many rows went; 0: nothing to do now.
CREATE FUNCTION pusher.purge(p_scope smallint, p_most int) RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET enable_hashjoin = off
SET enable_mergejoin = off SET plan_cache_mode = force_generic_plan
AS $$
DECLARE
    v_epoch int := pusher.epoch(p_scope);
    v_nil constant uuid := '00000000-0000-0000-0000-000000000000';
    v_order purge;
    v_reason text;
    v_accounts uuid[];  v_deliveries uuid[];  v_versions int[];  v_datas jsonb[];
    v_row outbox;
    v_is_held boolean;
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

        -- Three searches, one for each index: a condition for all of them would read all of the account.
        SELECT array_agg(w.account_id), array_agg(w.delivery_id) INTO v_accounts, v_deliveries
          FROM (SELECT o.account_id, o.delivery_id FROM outbox o
                 WHERE o.account_id = v_order.account_id AND (o.fence = 0 OR o.due_at < clock_timestamp())
                 LIMIT p_most FOR UPDATE SKIP LOCKED) AS w
         WHERE v_order.destination_id = v_nil;
        FOREACH v_is_held IN ARRAY ARRAY[true, false] LOOP
            EXIT WHEN v_order.destination_id = v_nil OR v_accounts IS NOT NULL;
            IF v_is_held THEN
                SELECT array_agg(w.account_id), array_agg(w.delivery_id) INTO v_accounts, v_deliveries
                  FROM (SELECT o.account_id, o.delivery_id FROM outbox o
                         WHERE o.destination_id BETWEEN v_order.destination_id AND v_order.destination_id AND o.held
                           AND (o.fence = 0 OR o.due_at < clock_timestamp())
                         ORDER BY o.destination_id, o.due_at LIMIT p_most FOR UPDATE SKIP LOCKED) AS w;
            ELSE
                SELECT array_agg(w.account_id), array_agg(w.delivery_id) INTO v_accounts, v_deliveries
                  FROM (SELECT o.account_id, o.delivery_id FROM outbox o
                         WHERE o.destination_id BETWEEN v_order.destination_id AND v_order.destination_id AND NOT o.held
                           AND (o.fence = 0 OR o.due_at < clock_timestamp())
                         ORDER BY o.destination_id, o.due_at LIMIT p_most FOR UPDATE SKIP LOCKED) AS w;
            END IF;
        END LOOP;
        IF v_accounts IS NOT NULL THEN
            PERFORM pusher.interrupt(p_scope, v_accounts, v_deliveries, v_epoch);
            v_versions := '{}';
            v_datas := '{}';
            FOR i IN 1 .. cardinality(v_accounts) LOOP
                DELETE FROM outbox o WHERE o.account_id = v_accounts[i] AND o.delivery_id = v_deliveries[i]
                RETURNING o.* INTO v_row;
                v_versions := v_versions || v_row.version + 1;
                v_datas := v_datas || jsonb_build_object(
                    'event', v_row.event_id, 'destination', v_row.destination_id, 'reason', v_reason);
            END LOOP;
            PERFORM pusher.append(
                p_scope, v_accounts, v_deliveries, v_versions,
                array_fill('delivery.cancelled'::text, ARRAY[cardinality(v_accounts)]), v_datas, NULL, NULL);
            RETURN cardinality(v_accounts);
        END IF;

        IF v_order.destination_id = v_nil THEN
            -- In-flight rows still need their payload; an accept that was under way has ended: deleting took its gate.
            CONTINUE WHEN EXISTS (SELECT FROM outbox o WHERE o.account_id = v_order.account_id);
            v_gone := pusher.erase(v_order.account_id, p_most);
            IF v_gone > 0 THEN
                RETURN v_gone;
            END IF;
            CONTINUE WHEN EXISTS (SELECT FROM payload p WHERE p.account_id = v_order.account_id);  -- others are at it
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
