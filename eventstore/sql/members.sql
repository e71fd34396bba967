-- The events of an epoch whose transactions had ended by p_now but not by p_before: the new ones by their range of
-- the index, and those that were in progress last time one by one.
CREATE FUNCTION pusher.members(p_scope smallint, p_epoch int, p_before pg_snapshot, p_now pg_snapshot)
RETURNS SETOF event LANGUAGE sql STABLE AS $$
    SELECT e.* FROM event e
     WHERE e.scope = p_scope AND e.epoch = p_epoch
       AND e.xid >= pg_snapshot_xmax(p_before) AND e.xid < pg_snapshot_xmax(p_now)
       AND pg_visible_in_snapshot(e.xid, p_now)
    UNION ALL
    SELECT e.* FROM event e
     WHERE e.scope = p_scope AND e.epoch = p_epoch
       AND e.xid = ANY (ARRAY(SELECT pg_snapshot_xip(p_before)))
       AND pg_visible_in_snapshot(e.xid, p_now)
$$;
