-- When may a destination get nothing? From when until when (seconds of Unix time) it, or its account, was gone or inactive.
CREATE FUNCTION pusher.list_inactive() RETURNS TABLE (destination_id text, since float8, until float8)
LANGUAGE sql STABLE AS $$
    SELECT a.destination_id::text, extract(epoch FROM a.since)::float8, extract(epoch FROM a.until)::float8
      FROM pusher.activity() a WHERE NOT a.active
    UNION ALL
    SELECT d.stream_id::text, extract(epoch FROM e.recorded_at)::float8, 'infinity'
      FROM event e JOIN event d ON d.account_id = e.account_id AND d.type = 'destination.created'
     WHERE e.type = 'account.deleted'
$$;
