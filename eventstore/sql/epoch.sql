-- The current epoch. Raises DP001 when this is not the database that history's newest row was written in: a dump was
-- restored, or the server was promoted or recovered to a point in time, so that transaction ids and the outbox may
-- have a second life elsewhere. `manage.py after_restore` begins a new epoch.
-- (A copy of the data directory that was started as if after a crash can't be told from the original.)
-- The timeline is the one being written, not the last checkpoint's: it changes at once on promotion.
CREATE FUNCTION pusher.epoch(p_scope smallint) RETURNS int LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_last history;
    v_here record;
BEGIN
    SELECT * INTO v_last FROM history WHERE scope = p_scope ORDER BY epoch DESC LIMIT 1;
    SELECT * INTO v_here FROM pusher.server();
    IF v_last.epoch IS NULL
       OR (v_last.system_identifier, v_last.timeline, v_last.database)
          IS DISTINCT FROM (v_here.system_identifier, v_here.timeline, v_here.database) THEN
        RAISE EXCEPTION 'this database was restored or recovered: run manage.py after_restore'
            USING ERRCODE = 'DP001';
    END IF;
    RETURN v_last.epoch;
END
$$;
