-- Ask for a delivery again: the same id, the same bytes, the next attempt number, a fresh schedule; due at once.
-- Outcomes: requested, pending, unknown, deleted and inactive (the destination), erased (the payload).
--
-- The caller holds the account's row, so the account can't go meanwhile. A destination may go: as with an accept, what
-- then waits is cancelled by the purge or by the worker that claims it. Who holds the outbox row appends to the delivery's
-- stream; so the row comes first (its key is the lock: the insert waits for a settle that is just deleting the old
-- one), and the stream's end is read by LATER statements, which see what that settle left.
CREATE FUNCTION pusher.redeliver(p_scope smallint, p_account uuid, p_delivery uuid, p_actor uuid) RETURNS text
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_epoch int := pusher.epoch(p_scope);
    v_event uuid;
    v_destination uuid;
    v_active boolean;
    v_held boolean;
    v_size int;
    v_version int;
    v_attempts int;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    -- The row before the stream: a first settle between the two looks would hide the delivery from both.
    IF EXISTS (SELECT FROM outbox o WHERE o.account_id = p_account AND o.delivery_id = p_delivery) THEN
        RETURN 'pending';
    END IF;
    SELECT (e.data ->> 'event')::uuid, (e.data ->> 'destination')::uuid INTO v_event, v_destination
      FROM event e
     WHERE e.account_id = p_account AND e.stream_id = p_delivery AND e.version = 1 AND e.type LIKE 'delivery.%';
    IF NOT FOUND THEN
        RETURN 'unknown';
    END IF;
    SELECT r.active, r.paused OR coalesce(l.resting OR l.crowded, false) INTO v_active, v_held
      FROM pusher.route r
      LEFT JOIN LATERAL (SELECT * FROM lane l WHERE l.destination_id = r.destination_id LIMIT 1) AS l ON true
     WHERE r.destination_id = v_destination;
    IF NOT FOUND THEN
        RETURN 'deleted';
    ELSIF NOT v_active THEN
        RETURN 'inactive';
    END IF;
    SELECT octet_length(p.body) INTO v_size FROM payload p
     WHERE p.account_id = p_account AND p.event_id = v_event FOR KEY SHARE;  -- an erasure passes it over
    IF NOT FOUND THEN
        RETURN 'erased';
    END IF;

    INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, held)
    VALUES (p_account, p_delivery, v_event, v_destination, v_epoch, v_size, clock_timestamp(), v_held)
        ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RETURN 'pending';
    END IF;
    SELECT e.version INTO v_version FROM event e
     WHERE e.account_id = p_account AND e.stream_id = p_delivery ORDER BY e.version DESC LIMIT 1;
    SELECT (e.data ->> 'attempt')::int INTO v_attempts FROM event e
     WHERE e.account_id = p_account AND e.stream_id = p_delivery AND e.data ? 'attempt' ORDER BY e.version DESC LIMIT 1;
    UPDATE outbox o SET version = v_version + 1, attempt = coalesce(v_attempts, 0), base = coalesce(v_attempts, 0)
     WHERE o.account_id = p_account AND o.delivery_id = p_delivery;
    PERFORM pusher.append(
        p_scope, ARRAY[p_account], ARRAY[p_delivery], ARRAY[v_version + 1], ARRAY['delivery.requested'],
        ARRAY[jsonb_build_object('event', v_event, 'destination', v_destination, 'actor', p_actor)], NULL, NULL);
    RETURN 'requested';
END
$$;
