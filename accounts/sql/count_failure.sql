-- Count one try as failed before anybody knows, under each of its keys, or refuse it: `wait` is the seconds left of
-- the longest pause, 0 when it was counted. `pauses` are the ends of the pauses that this try began, for
-- `forgive_failure`. From the try number `p_free` on each begins a pause: 1 s, 2 s, 4 s ... `p_longest`. Rows are
-- locked in the order of their keys; a refused try changes nothing.
CREATE FUNCTION pusher.count_failure(
    p_keys bytea[], p_free int[], p_longest float8[], p_quiet float8, OUT wait float8, OUT pauses timestamptz[]
)
LANGUAGE plpgsql VOLATILE
AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    -- Without a lock first: who hammers at a pause costs one look.
    SELECT extract(epoch FROM max(f.paused_until) - v_now) INTO wait FROM public.accounts_failure f
     WHERE f.key = ANY (p_keys) AND f.paused_until > v_now;
    IF wait IS NOT NULL THEN
        RETURN;
    END IF;
    INSERT INTO public.accounts_failure AS f (key, failures, last_at)
    SELECT k, 0, v_now FROM unnest(p_keys) AS k ORDER BY k
    ON CONFLICT (key) DO UPDATE SET failures = f.failures;
    v_now := clock_timestamp();  -- it may have waited for a try that began a pause
    SELECT extract(epoch FROM max(f.paused_until) - v_now) INTO wait FROM public.accounts_failure f
     WHERE f.key = ANY (p_keys) AND f.paused_until > v_now;
    IF wait IS NOT NULL THEN
        RETURN;
    END IF;
    WITH tried AS (
        SELECT t.key, t.free, t.longest, t.place,
               CASE WHEN f.last_at + p_quiet * interval '1 second' <= v_now THEN 1 ELSE f.failures + 1 END AS failures
          FROM unnest(p_keys, p_free, p_longest) WITH ORDINALITY AS t (key, free, longest, place)
          JOIN public.accounts_failure f USING (key)
    ), counted AS (
        UPDATE public.accounts_failure f
           SET failures = t.failures, last_at = v_now,
               paused_until = CASE WHEN t.failures >= t.free
                   THEN v_now + least(t.longest, 2 ^ least(t.failures - t.free, 20)) * interval '1 second' END
          FROM tried t
         WHERE f.key = t.key
        RETURNING t.place, f.paused_until
    )
    SELECT 0, array_agg(c.paused_until ORDER BY c.place) INTO wait, pauses FROM counted c;
END
$$;
