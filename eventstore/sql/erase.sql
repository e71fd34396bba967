-- Erase up to so many payloads of an account, bytes and salt together. Returns how many; 0: none are left, or others are
-- erasing them. The events and their proofs stay (ADR: payload apart from events).
CREATE FUNCTION pusher.erase(p_account uuid, p_most int) RETURNS int
LANGUAGE plpgsql VOLATILE
SET enable_seqscan = off
AS $$
DECLARE
    v_erased int;
BEGIN
    DELETE FROM payload WHERE account_id = p_account AND event_id IN (
        SELECT event_id FROM payload WHERE account_id = p_account LIMIT p_most FOR UPDATE SKIP LOCKED);
    GET DIAGNOSTICS v_erased = ROW_COUNT;
    RETURN v_erased;
END
$$;
