-- The events that were sent on request, to one destination each: they are no client's, and spend nothing of a limit.
CREATE FUNCTION pusher.samples() RETURNS SETOF uuid LANGUAGE sql STABLE AS $$
    SELECT (e.data ->> 'event')::uuid FROM event e WHERE e.type = 'destination.tested' AND e.data ? 'event'
$$;
