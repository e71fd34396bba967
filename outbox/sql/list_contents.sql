-- What is stored under the ids of these accounts: the event, the SHA-256 of its bytes and their number (null: erased).
CREATE FUNCTION pusher.list_contents(p_accounts uuid[])
RETURNS TABLE (account_id text, client_id text, event_id text, sha256 text, size int)
LANGUAGE sql STABLE AS $$
    SELECT k.account_id::text, k.client_id, k.event_id::text, encode(sha256(p.body), 'hex'), octet_length(p.body)
      FROM event_key k
      JOIN event e ON e.account_id = k.account_id AND e.stream_id = k.event_id AND e.version = 1
      LEFT JOIN payload p ON p.account_id = k.account_id AND p.event_id = k.event_id
     WHERE k.account_id = ANY (p_accounts)
$$;
