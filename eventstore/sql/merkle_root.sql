-- The root over the leaves (RFC 6962, section 2.1). Pairing neighbours level by level, an odd last one rising as it
-- is, gives the same tree as splitting at the largest power of two below n.
CREATE FUNCTION pusher.merkle_root(p_leaves bytea[]) RETURNS bytea LANGUAGE plpgsql IMMUTABLE STRICT AS $$
DECLARE
    v_level bytea[] := p_leaves;
BEGIN
    WHILE cardinality(v_level) > 1 LOOP
        SELECT array_agg(CASE WHEN pair.r IS NULL THEN pair.l ELSE sha256('\x01'::bytea || pair.l || pair.r) END
                         ORDER BY pair.place)
          INTO v_level
          FROM (SELECT n.place, n.hash AS l, lead(n.hash) OVER (ORDER BY n.place) AS r
                  FROM unnest(v_level) WITH ORDINALITY AS n(hash, place)) pair
         WHERE pair.place % 2 = 1;
    END LOOP;
    RETURN v_level[1];
END
$$;
