-- Seal the block after p_last: the events that ended between two snapshots of p_epoch, about p_most of them.
-- Returns its number; NULL when there were none, or when another session sealed the same number first.
-- The settings: a plan made while the table was small must not outlive that (a scan of all events, twice a second).
CREATE FUNCTION pusher.seal_next(
    p_scope smallint, p_epoch int, p_last block, p_before pg_snapshot, p_now pg_snapshot, p_most int
) RETURNS bigint LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off
AS $$
DECLARE
    v_block block;
    v_leaves bytea[];
BEGIN
    v_block.scope := p_scope;
    v_block.number := coalesce(p_last.number, 0) + 1;
    v_block.epoch := p_epoch;
    v_block.snapshot := pusher.cut(p_scope, p_epoch, p_before, p_now, p_most);
    v_block.first_position := coalesce(p_last.first_position + p_last.count, 1);
    WITH placed AS (
        INSERT INTO event_position (scope, position, block, account_id, epoch, xid, seq, leaf)
        SELECT p_scope, v_block.first_position - 1 + row_number() OVER (ORDER BY m.seq), v_block.number,
               m.account_id, m.epoch, m.xid, m.seq,
               sha256('\x00'::bytea || convert_to(pusher.line(m), 'UTF8'))
          FROM pusher.members(p_scope, p_epoch, p_before, v_block.snapshot) m
        RETURNING position, leaf
    )
    SELECT array_agg(leaf ORDER BY position) INTO v_leaves FROM placed;
    IF v_leaves IS NULL THEN
        RETURN NULL;
    END IF;
    v_block.count := cardinality(v_leaves);
    v_block.root := pusher.merkle_root(v_leaves);
    v_block.previous := coalesce(p_last.hash, decode(repeat('00', 32), 'hex'));
    v_block.sealed_at := clock_timestamp();
    v_block.hash := sha256('\x02'::bytea || convert_to(pusher.block_line(v_block), 'UTF8'));
    -- Last: a session that stops before this line has nothing that others would wait for but positions, and
    -- positions and block together stand or fall by their primary keys.
    INSERT INTO block SELECT v_block.*;
    RETURN v_block.number;
EXCEPTION WHEN unique_violation THEN
    RETURN NULL;
END
$$;
