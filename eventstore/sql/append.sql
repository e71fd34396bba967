-- Append events, in the order of the arrays. A version is given, or NULL for the stream's next (then the caller holds
-- the lock of the thing that the stream is about; a race without it ends in unique_violation, never in a double).
-- p_versions (all next), p_digests and p_recorded_at may be NULL. Raises DP001 after a restore: see pusher.epoch.
CREATE FUNCTION pusher.append(
    p_scope smallint, p_accounts uuid[], p_streams uuid[], p_versions int[], p_types text[], p_datas jsonb[],
    p_digests bytea[], p_recorded_at timestamptz
) RETURNS void LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off  -- the plan must not outlive the time when the table was small
AS $$
DECLARE
    v_epoch int := pusher.epoch(p_scope);
    v_now timestamptz := coalesce(p_recorded_at, clock_timestamp());
BEGIN
    IF cardinality(array_remove(p_versions, NULL)) = cardinality(p_accounts) THEN
        INSERT INTO event (scope, epoch, account_id, stream_id, version, type, data, payload_digest, recorded_at)
        SELECT p_scope, v_epoch, n.account_id, n.stream_id, n.version, n.type, n.data, n.digest, v_now
          FROM unnest(p_accounts, p_streams, p_versions, p_types, p_datas, p_digests) WITH ORDINALITY
               AS n(account_id, stream_id, version, type, data, digest, place)
         ORDER BY n.place;
        RETURN;
    END IF;
    INSERT INTO event (scope, epoch, account_id, stream_id, version, type, data, payload_digest, recorded_at)
    SELECT p_scope, v_epoch, n.account_id, n.stream_id,
           coalesce(n.version, last.version
               + (row_number() OVER (PARTITION BY n.account_id, n.stream_id ORDER BY n.place))::int),
           n.type, n.data, n.digest, v_now
      FROM unnest(p_accounts, p_streams, p_versions, p_types, p_datas, p_digests) WITH ORDINALITY
           AS n(account_id, stream_id, version, type, data, digest, place)
           CROSS JOIN LATERAL (
               SELECT coalesce(max(e.version), 0) AS version FROM event e
                WHERE e.account_id = n.account_id AND e.stream_id = n.stream_id
           ) last
     ORDER BY n.place;
END
$$;
