-- I13: do these texts stand anywhere in the database, but in what clients posted? Every table is read, row by row, as
-- text. p_places says which canary a needle is a form of (plain, hex, base64): the answer names it by its number alone.
CREATE FUNCTION pusher.check_canaries(p_needles text[], p_places int[])
RETURNS TABLE (checked bigint, violated bigint, examples text[])
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_table regclass;
    v_found record;
    v_rows bigint;
BEGIN
    checked := 0;
    violated := 0;
    examples := '{}';
    FOR v_table IN
        SELECT c.oid FROM pg_class c
         WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND c.relname <> 'payload'
           AND has_table_privilege(c.oid, 'SELECT')
         ORDER BY c.relname
    LOOP
        EXECUTE format('SELECT count(*) FROM %s', v_table) INTO v_rows;
        checked := checked + v_rows;
        FOR v_found IN EXECUTE format(
            'SELECT n.place, count(DISTINCT t.id) AS number
               FROM (SELECT x.ctid AS id, x::text AS line FROM %s x OFFSET 0) t
               JOIN unnest($1, $2) AS n(needle, place) ON position(n.needle IN t.line) > 0
              GROUP BY n.place', v_table)
            USING p_needles, p_places
        LOOP
            violated := violated + v_found.number;
            examples := examples || format('canary %s stands in %s rows of %s', v_found.place, v_found.number, v_table);
        END LOOP;
    END LOOP;
    examples := examples[1:10];
    RETURN NEXT;
END
$$;
