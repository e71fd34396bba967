-- Remove up to p_most log rows of one deleted account, in any version of the log. Returns how much was done, 0 when
-- there is nothing left to do, or when another session is at it. Queries hide these rows already.
-- The partition is named by EXECUTE: one that is being built does not belong to the log yet.
CREATE FUNCTION pusher.sweep_logs(p_most int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_erased delivery_log_erased;
    v_removed bigint := 0;
BEGIN
    SELECT * INTO v_erased FROM delivery_log_erased WHERE NOT swept LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    IF to_regclass('delivery_log_v' || v_erased.version) IS NOT NULL THEN
        EXECUTE format('DELETE FROM %I WHERE ctid = ANY (ARRAY(
                            SELECT ctid FROM %1$I WHERE version = $1 AND account_id = $2 LIMIT $3 FOR UPDATE))',
                       'delivery_log_v' || v_erased.version)
          USING v_erased.version, v_erased.account_id, p_most;
        GET DIAGNOSTICS v_removed = ROW_COUNT;
    END IF;
    IF v_removed < p_most THEN
        UPDATE delivery_log_erased x SET swept = true
         WHERE x.version = v_erased.version AND x.account_id = v_erased.account_id;
    END IF;
    RETURN v_removed + 1;
END
$$;
