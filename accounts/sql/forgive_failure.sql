-- A try that `count_failure` counted was none: it is given back, and the pause ends that it began (not another's).
CREATE FUNCTION pusher.forgive_failure(p_keys bytea[], p_pauses timestamptz[]) RETURNS void
LANGUAGE plpgsql VOLATILE
AS $$
BEGIN
    PERFORM FROM public.accounts_failure f WHERE f.key = ANY (p_keys) ORDER BY f.key FOR NO KEY UPDATE;
    UPDATE public.accounts_failure f
       SET failures = greatest(f.failures - 1, 0),
           paused_until = CASE WHEN f.paused_until = t.pause THEN NULL ELSE f.paused_until END
      FROM unnest(p_keys, p_pauses) AS t (key, pause)
     WHERE f.key = t.key;
END
$$;
