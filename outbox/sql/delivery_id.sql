-- The id of the delivery of one event to one destination: always the same, and sorted by the event's time.
-- UUID version 8 (RFC 9562): 48 bits of the event's id, then a hash of both.
CREATE FUNCTION pusher.delivery_id(p_event uuid, p_destination uuid) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT encode(
               substring(uuid_send(p_event) FOR 6) || set_byte(set_byte(
                   h.bytes, 0, get_byte(h.bytes, 0) & 15 | 128), 2, get_byte(h.bytes, 2) & 63 | 128),
               'hex')::uuid
      FROM (SELECT substring(sha256(uuid_send(p_event) || uuid_send(p_destination)) FOR 10) AS bytes) AS h
$$;
