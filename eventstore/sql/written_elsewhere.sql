-- Is this another server, timeline or database than the one that history's newest row was written in?
CREATE FUNCTION pusher.written_elsewhere(p_scope smallint) RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT NOT EXISTS (
        SELECT FROM history h, pusher.server() s
         WHERE h.scope = p_scope AND h.epoch = (SELECT max(epoch) FROM history WHERE scope = p_scope)
           AND (h.system_identifier, h.timeline, h.database) = (s.system_identifier, s.timeline, s.database)
    )
$$;
