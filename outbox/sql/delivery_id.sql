-- The id of the delivery of one event to one destination: always the same, and sorted by the event's time.
-- UUID version 8 (RFC 9562): 48 bits of the event's id, then a hash of both. One expression, so that PostgreSQL puts it
-- in the place of the call: each event makes one.
CREATE FUNCTION pusher.delivery_id(p_event uuid, p_destination uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(
               set_byte(set_byte(
                   substring(uuid_send(p_event) FOR 6)
                       || substring(sha256(uuid_send(p_event) || uuid_send(p_destination)) FOR 10),
                   6, get_byte(sha256(uuid_send(p_event) || uuid_send(p_destination)), 0) & 15 | 128),
                   8, get_byte(sha256(uuid_send(p_event) || uuid_send(p_destination)), 2) & 63 | 128),
               'hex')::uuid
$$;
