-- After a restore or a recovery: seal what is left of the old epoch, and begin the next one in this database.
-- Returns the new epoch; NULL when history already names this database, so that nothing needs to be done.
CREATE FUNCTION pusher.begin_epoch(p_scope smallint) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    v_epoch int;
BEGIN
    PERFORM pg_advisory_xact_lock(24225, p_scope);
    IF NOT pusher.written_elsewhere(p_scope) THEN
        RETURN NULL;
    END IF;
    PERFORM pusher.seal_rest(p_scope);
    INSERT INTO history (scope, epoch, system_identifier, timeline, database)
    SELECT p_scope, (SELECT coalesce(max(epoch), 0) + 1 FROM history WHERE scope = p_scope),
           s.system_identifier, s.timeline, s.database
      FROM pusher.server() s
    RETURNING epoch INTO v_epoch;
    RETURN v_epoch;
END
$$;
