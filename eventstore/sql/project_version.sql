-- Bring one version of a projection forward by up to p_blocks blocks, or about 20,000 events. Returns the blocks applied.
-- The checkpoint moves first, in the same transaction: each block has its effect exactly once, however many try.
CREATE FUNCTION pusher.project_version(p_name text, p_version int, p_blocks int, p_scope smallint DEFAULT 0)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_from bigint;
    v_to bigint;
    v_first bigint;
    v_last bigint;
BEGIN
    SELECT c.block INTO v_from FROM projection_checkpoint c
     WHERE c.name = p_name AND c.version = p_version AND c.scope = p_scope FOR UPDATE SKIP LOCKED;
    SELECT b.first_position INTO v_first FROM block b WHERE b.scope = p_scope AND b.number = v_from + 1;
    IF v_first IS NULL THEN
        RETURN 0;
    END IF;
    SELECT max(b.number), max(b.first_position + b.count - 1) INTO v_to, v_last FROM block b
     WHERE b.scope = p_scope AND b.number > v_from AND b.number <= v_from + greatest(p_blocks, 1)
       AND (b.number = v_from + 1 OR b.first_position + b.count - v_first <= 20000);
    UPDATE projection_checkpoint c SET block = v_to
     WHERE c.name = p_name AND c.version = p_version AND c.scope = p_scope;
    EXECUTE format('SELECT pusher.%I($1, $2, $3, $4)', 'project_' || p_name) USING p_scope, p_version, v_first, v_last;
    RETURN v_to - v_from;
END
$$;
