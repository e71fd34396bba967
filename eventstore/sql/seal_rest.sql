-- Seal what is left of an epoch that has ended, because this database is not the one that it was written in.
-- All its events count as ended: the dump or the recovery kept only those that were committed. Returns the blocks sealed.
CREATE FUNCTION pusher.seal_rest(p_scope smallint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_epoch int := (SELECT max(epoch) FROM history WHERE scope = p_scope);
    v_last block;
    v_before pg_snapshot;
    v_end bigint;
    v_sealed bigint := 0;
BEGIN
    IF NOT pusher.written_elsewhere(p_scope) THEN
        RAISE EXCEPTION 'epoch % is still being written: pusher.seal seals it', v_epoch;
    END IF;
    LOOP
        SELECT * INTO v_last FROM block WHERE scope = p_scope ORDER BY number DESC LIMIT 1;
        v_before := CASE WHEN v_last.epoch = v_epoch THEN v_last.snapshot ELSE '1:1:' END;
        SELECT greatest(max(xid::text::bigint) + 1, pg_snapshot_xmax(v_before)::text::bigint) INTO v_end
          FROM (SELECT xid FROM event WHERE scope = p_scope AND epoch = v_epoch
                 ORDER BY scope DESC, epoch DESC, xid DESC LIMIT 1) newest;
        EXIT WHEN pusher.seal_next(
            p_scope, v_epoch, v_last, v_before, format('%s:%s:', v_end, v_end)::pg_snapshot, 10000
        ) IS NULL;
        v_sealed := v_sealed + 1;
    END LOOP;
    RETURN v_sealed;
END
$$;
