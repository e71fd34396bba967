-- The snapshot as it would be if no transaction from p_cut on had ended (or begun).
CREATE FUNCTION pusher.truncated(p_snapshot pg_snapshot, p_cut xid8) RETURNS pg_snapshot LANGUAGE sql IMMUTABLE AS $$
    SELECT format('%s:%s:%s',
        least(pg_snapshot_xmin(p_snapshot), p_cut),
        p_cut,
        (SELECT string_agg(xid::text, ',' ORDER BY xid) FROM pg_snapshot_xip(p_snapshot) xid WHERE xid < p_cut)
    )::pg_snapshot
$$;
