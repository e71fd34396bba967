-- Remove up to p_most log rows of one deleted account. Returns what it did (rows, at least 1), 0 when nothing is left (or another
-- session is at it). Queries hide these rows already.
CREATE FUNCTION pusher.sweep_logs(p_most int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_erased delivery_log_erased;
    v_removed bigint;
BEGIN
    SELECT * INTO v_erased FROM delivery_log_erased WHERE NOT swept LIMIT 1 FOR UPDATE SKIP LOCKED;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    DELETE FROM delivery_log l
     WHERE l.version = v_erased.version AND l.account_id = v_erased.account_id AND l.delivery_id IN (
         SELECT d.delivery_id FROM delivery_log d
          WHERE d.version = v_erased.version AND d.account_id = v_erased.account_id LIMIT p_most
     );
    GET DIAGNOSTICS v_removed = ROW_COUNT;
    IF v_removed < p_most THEN
        UPDATE delivery_log_erased x SET swept = true
         WHERE x.version = v_erased.version AND x.account_id = v_erased.account_id;
    END IF;
    RETURN greatest(v_removed, 1);
END
$$;
