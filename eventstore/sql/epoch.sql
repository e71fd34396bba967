-- The current epoch. Raises DP001 when this is not the database that history's newest row was written in: a dump was
-- restored, or the server was promoted or recovered to a point in time, so that transaction ids and the outbox may
-- have a second life elsewhere. `manage.py after_restore` begins a new epoch.
-- (A copy of the data directory that was started as if after a crash can't be told from the original.)
CREATE FUNCTION pusher.epoch(p_scope smallint) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_epoch int;
BEGIN
    SELECT h.epoch INTO v_epoch
      FROM (SELECT * FROM history WHERE scope = p_scope ORDER BY epoch DESC LIMIT 1) h, pusher.server() s
     WHERE (h.system_identifier, h.timeline, h.database) = (s.system_identifier, s.timeline, s.database);
    IF v_epoch IS NULL THEN
        RAISE EXCEPTION 'this database was restored or recovered: run manage.py after_restore'
            USING ERRCODE = 'DP001';
    END IF;
    RETURN v_epoch;
END
$$;
