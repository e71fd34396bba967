-- Which server and database is this? A dump restored elsewhere, a recovery and a promotion each change one of the three.
-- The timeline is the one being written, not the last checkpoint's: on promotion it changes before anybody can write.
CREATE FUNCTION pusher.server(OUT system_identifier bigint, OUT timeline int, OUT database oid)
LANGUAGE sql STABLE AS $$
    SELECT s.system_identifier, ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int, d.oid
      FROM pg_control_system() s, pg_database d
     WHERE d.datname = current_database()
$$;
