-- The event as one line of JSON: what `manage.py export` writes, and what the event's leaf is the hash of.
-- The order of the members is fixed; `data` stands as jsonb prints it; times are UTC with microseconds.
CREATE FUNCTION pusher.line(p_event event) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT '{"scope":' || p_event.scope
        || ',"epoch":' || p_event.epoch
        || ',"account_id":"' || p_event.account_id
        || '","stream_id":"' || p_event.stream_id
        || '","version":' || p_event.version
        || ',"type":' || to_json(p_event.type)
        || ',"recorded_at":"' || to_char(p_event.recorded_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        || '","payload_digest":' || coalesce('"' || encode(p_event.payload_digest, 'hex') || '"', 'null')
        || ',"data":' || p_event.data
        || '}'
$$;
