-- p_now, or an earlier end of it such that about p_most events lie between p_before and it.
-- Everything below the cut is as in p_now, nothing from it on has happened: so the next block goes on from there.
-- The late ones (in progress at p_before) all stay in; a single transaction is never cut in two. Nor does a version stay
-- in without the one before it: who locks a thing and waits for it has a lower id than who had it, and appends later.
CREATE FUNCTION pusher.cut(p_scope smallint, p_epoch int, p_before pg_snapshot, p_now pg_snapshot, p_most int)
RETURNS pg_snapshot LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_late int;
    v_cut xid8;
    v_preceding xid8;
BEGIN
    SELECT count(*) INTO v_late FROM event e
     WHERE e.scope = p_scope AND e.epoch = p_epoch
       AND e.xid = ANY (ARRAY(SELECT pg_snapshot_xip(p_before)))
       AND pg_visible_in_snapshot(e.xid, p_now);
    -- The transaction of the first event that is too many.
    SELECT e.xid INTO v_cut FROM event e
     WHERE e.scope = p_scope AND e.epoch = p_epoch
       AND e.xid >= pg_snapshot_xmax(p_before) AND e.xid < pg_snapshot_xmax(p_now)
       AND pg_visible_in_snapshot(e.xid, p_now)
     ORDER BY e.scope, e.epoch, e.xid, e.seq
    OFFSET greatest(p_most - v_late, 0) LIMIT 1;
    IF v_cut IS NULL THEN
        RETURN p_now;
    END IF;
    IF v_late = 0 AND NOT EXISTS (
        SELECT FROM event e
         WHERE e.scope = p_scope AND e.epoch = p_epoch
           AND e.xid >= pg_snapshot_xmax(p_before) AND e.xid < v_cut
           AND pg_visible_in_snapshot(e.xid, p_now)
    ) THEN
        v_cut := (v_cut::text::bigint + 1)::text::xid8;
    END IF;
    LOOP
        SELECT max(b.xid) INTO v_preceding
          FROM pusher.members(p_scope, p_epoch, p_before, pusher.truncated(p_now, v_cut)) m
         CROSS JOIN LATERAL (SELECT e.epoch, e.xid FROM event e WHERE e.account_id = m.account_id
                                AND e.stream_id = m.stream_id AND e.version = m.version - 1 LIMIT 1) b
         WHERE m.version > 1 AND b.epoch = p_epoch AND b.xid >= v_cut;
        EXIT WHEN v_preceding IS NULL;
        v_cut := (v_preceding::text::bigint + 1)::text::xid8;
    END LOOP;
    RETURN pusher.truncated(p_now, v_cut);
END
$$;
