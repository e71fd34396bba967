-- Accept one event for one destination, the active one that the caller holds (with its account, which so can't go
-- meanwhile). All else is as in `accept`: key, payload, row and event.received, in the caller's one commit. It spends
-- nothing of the account's limit, so it leaves the gate alone and stands in no accept's way.
CREATE FUNCTION pusher.sample(
    p_scope smallint, p_account uuid, p_destination uuid, p_event uuid, p_client_id text,
    p_body bytea, p_salt bytea, p_digest bytea, OUT delivery_id uuid, OUT received_at timestamptz)
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off SET enable_bitmapscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
DECLARE
    v_held boolean;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    delivery_id := pusher.delivery_id(p_event, p_destination);
    received_at := clock_timestamp();
    SELECT r.paused OR coalesce(l.resting OR l.crowded, false) INTO STRICT v_held
      FROM pusher.route r
      LEFT JOIN LATERAL (SELECT * FROM lane l WHERE l.destination_id = r.destination_id LIMIT 1) AS l ON true
     WHERE r.destination_id = p_destination;
    INSERT INTO event_key (account_id, client_id, event_id) VALUES (p_account, p_client_id, p_event);
    INSERT INTO payload (account_id, event_id, body, salt) VALUES (p_account, p_event, p_body, p_salt);
    INSERT INTO outbox (account_id, delivery_id, event_id, destination_id, epoch, size, due_at, held)
    VALUES (p_account, delivery_id, p_event, p_destination, pusher.epoch(p_scope), octet_length(p_body), received_at,
            v_held);
    PERFORM pusher.append(
        p_scope, ARRAY[p_account], ARRAY[p_event], ARRAY[1], ARRAY['event.received'],
        ARRAY[jsonb_build_object('event_id', p_client_id, 'size', octet_length(p_body), 'deliveries',
                                 jsonb_build_array(jsonb_build_array(delivery_id, p_destination)))],
        ARRAY[p_digest], received_at);
END
$$;
