-- The current epoch. Raises DP001 when this is not the database that history's newest row was written in: a dump was
-- restored, or the server was promoted or recovered to a point in time, so that transaction ids and the outbox may
-- have a second life elsewhere. `manage.py after_restore` begins a new epoch.
-- (A copy of the data directory that was started as if after a crash can't be told from the original.)
CREATE FUNCTION pusher.epoch(p_scope smallint) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_server record := pusher.server();
    v_newest record;
BEGIN
    SELECT h.epoch, h.system_identifier, h.timeline, h.database INTO v_newest
      FROM history h WHERE h.scope = p_scope ORDER BY h.epoch DESC LIMIT 1;
    IF (v_newest.system_identifier, v_newest.timeline, v_newest.database)
       IS DISTINCT FROM (v_server.system_identifier, v_server.timeline, v_server.database) THEN
        RAISE EXCEPTION 'this database was restored or recovered: run manage.py after_restore'
            USING ERRCODE = 'DP001';
    END IF;
    RETURN v_newest.epoch;
END
$$;
