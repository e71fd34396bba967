-- Which server and database is this? A dump restored elsewhere, a recovery and a promotion each change one of the three.
-- The timeline is the one being written, not the last checkpoint's: on promotion it changes before anybody can write.
--
-- Asked once a session, since reading the control file costs more than a small batch's event: no session outlives its
-- server, and a standby has no answer (pg_current_wal_lsn refuses), so what a session has once been told stays true.
CREATE FUNCTION pusher.server(OUT system_identifier bigint, OUT timeline int, OUT database oid)
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_told text := current_setting('data_pusher.server', true);
BEGIN
    IF coalesce(v_told, '') = '' THEN
        SELECT set_config('data_pusher.server', concat_ws(' ', s.system_identifier,
                   ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, d.oid), false)
          INTO v_told
          FROM pg_control_system() s, pg_database d
         WHERE d.datname = current_database();
    END IF;
    system_identifier := split_part(v_told, ' ', 1);
    timeline := split_part(v_told, ' ', 2);
    database := split_part(v_told, ' ', 3);
END
$$;
