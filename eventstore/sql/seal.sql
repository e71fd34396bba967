-- Seal a block of what was committed since the last one. Returns its number; NULL when nothing was, when another session
-- is sealing, or when the last block is younger than `p_age`: blocks have a price of their own, and what happened to an
-- event within one costs its log one write. Call it as one statement in autocommit: then no stopped client can hold it up.
--
-- Why nothing is skipped and nothing comes twice: the last block is read first, the snapshot is taken by a LATER
-- statement, so this snapshot contains the last block's; a transaction that has ended in it and not in the last one
-- is in this block and in no other. The other way round, a slow sealer would store an older snapshot after a newer one.
-- The advisory lock only spares double work; the primary keys decide.
CREATE FUNCTION pusher.seal(p_scope smallint, p_most int, p_age interval DEFAULT '0')
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_epoch int;
    v_last block;
    v_before pg_snapshot := '1:1:';
    v_now pg_snapshot;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'seal needs READ COMMITTED: each statement must have a snapshot of its own';
    END IF;
    IF NOT pg_try_advisory_xact_lock(24225, p_scope) THEN
        RETURN NULL;
    END IF;
    v_epoch := pusher.epoch(p_scope);
    SELECT * INTO v_last FROM block WHERE scope = p_scope ORDER BY number DESC LIMIT 1;
    -- (One from the future, after the clock was set back, holds nobody up.)
    IF v_last.sealed_at > clock_timestamp() - p_age AND v_last.sealed_at <= clock_timestamp() THEN
        RETURN NULL;
    END IF;
    IF v_last.epoch = v_epoch THEN
        v_before := v_last.snapshot;
    END IF;
    v_now := pg_current_snapshot();
    RETURN pusher.seal_next(p_scope, v_epoch, v_last, v_before, v_now, p_most);
END
$$;
