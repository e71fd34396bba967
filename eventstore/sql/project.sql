-- Bring the active version of a projection forward by up to p_blocks blocks. Returns the blocks applied: 0 when there
-- were none, or when another session is at it. Call it as one statement in autocommit.
-- The pointer is read under the checkpoint's lock: a rebuild that switches versions holds both checkpoints.
CREATE FUNCTION pusher.project(p_name text, p_blocks int, p_scope smallint DEFAULT 0) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_version int := (SELECT active FROM projection WHERE name = p_name);
BEGIN
    -- Before the lock, which is a write: when nothing happens, nothing is written.
    IF NOT EXISTS (
        SELECT FROM projection_checkpoint c JOIN block b ON b.scope = c.scope AND b.number = c.block + 1
         WHERE c.name = p_name AND c.version = v_version AND c.scope = p_scope
    ) THEN
        RETURN 0;
    END IF;
    PERFORM FROM projection_checkpoint c
      WHERE c.name = p_name AND c.version = v_version AND c.scope = p_scope FOR UPDATE SKIP LOCKED;
    IF NOT FOUND OR v_version <> (SELECT active FROM projection WHERE name = p_name) THEN
        RETURN 0;
    END IF;
    RETURN pusher.project_version(p_name, v_version, p_blocks, p_scope);
END
$$;
