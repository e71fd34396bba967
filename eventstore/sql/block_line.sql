-- The block as one line of JSON, without its hash: what the hash is made of, after a byte 02.
CREATE FUNCTION pusher.block_line(p_block block) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT '{"scope":' || p_block.scope
        || ',"number":' || p_block.number
        || ',"epoch":' || p_block.epoch
        || ',"snapshot":"' || p_block.snapshot::text
        || '","first_position":' || p_block.first_position
        || ',"count":' || p_block.count
        || ',"root":"' || encode(p_block.root, 'hex')
        || '","previous":"' || encode(p_block.previous, 'hex')
        || '","sealed_at":"' || to_char(p_block.sealed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '"}'
$$;
