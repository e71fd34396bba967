-- Find the rows of an account's log that fit, in the order of (received_at, delivery_id), as many as one page needs.
-- NULL: no such condition. p_after_*: the row after which the page begins, in the direction of reading. A search finds
-- the event ids that begin with p_prefix, and the destinations in p_searched (those whose URL contains the text).
--
-- The shape of each statement names its index, whatever the statistics say. For the planner can't know how ids and times
-- go together: "order-1" may begin every second of ten million ids, or one of today and a million that are a year old.
--   * Account, destination, status and time of receipt are the key of an index: each row that is read is in the answer.
--   * An id leads to a few rows: those, sorted.
--   * A search or a span of processing may fit many rows or few, near or far away. The next p_budget rows in order are
--     looked through, which fills a page if those that fit are near. If not, those that fit are counted, as far as that
--     goes with the budget, and sorted if they are few. If not, all over again with more: so the time grows with the lesser
--     of both, and not with the log.
CREATE FUNCTION pusher.find_logs(
    p_account uuid, p_most int, p_descending boolean, p_after_at timestamptz, p_after_id uuid,
    p_delivery uuid, p_event text, p_destination uuid, p_status text,
    p_received_from timestamptz, p_received_to timestamptz, p_processed_from timestamptz, p_processed_to timestamptz,
    p_prefix text, p_searched uuid[], p_budget int
) RETURNS SETOF delivery_log LANGUAGE plpgsql
SET enable_seqscan = off SET enable_bitmapscan = off SET jit = off
AS $$
DECLARE
    v_statuses text[] := CASE WHEN p_status IS NULL THEN '{pending,success,failed}' ELSE ARRAY[p_status] END;
    v_searched uuid[] := coalesce(p_searched, '{}');
    -- A destination that is searched for and asked for: each of its rows fits.
    v_prefix text := CASE WHEN p_destination = ANY (v_searched) THEN NULL ELSE p_prefix END;
    v_order text := format('ORDER BY received_at %1$s, delivery_id %1$s', CASE WHEN p_descending THEN 'DESC' ELSE 'ASC' END);
    v_page text := format('%s LIMIT %s', v_order, p_most);
    v_of text;     -- all rows of the account
    v_keyed text;  -- the conditions that the ordered indexes answer, but for the status
    v_next text;   -- the rows that fit those and the status, in order
    v_span text;   -- when they were processed
    v_begins text; -- how their event's id begins
    v_fits text;   -- all conditions
    v_tries text[]; -- those that may lead to few rows
    v_try text;
    v_path text;   -- the one that does
    v_budget bigint := p_budget;
    v_number bigint;
    v_version int;
    v_found delivery_log[];
BEGIN
    -- Held to the end of the transaction: until then, the version that is active now does not leave.
    LOCK TABLE ONLY delivery_log IN ACCESS SHARE MODE;
    SELECT active INTO v_version FROM projection WHERE name = 'delivery_log';
    IF EXISTS (SELECT FROM delivery_log_erased WHERE version = v_version AND account_id = p_account) THEN
        RETURN;
    END IF;

    v_of := format('FROM delivery_log_v%s WHERE account_id = %L', v_version, p_account);
    v_keyed := concat(
        ' AND destination_id = ' || quote_literal(p_destination),
        ' AND received_at >= ' || quote_literal(p_received_from),
        -- Nothing is processed before it is received.
        ' AND received_at <= ' || quote_literal(least(p_received_to, p_processed_to)),
        format(' AND (received_at, delivery_id) %s (', CASE WHEN p_descending THEN '<' ELSE '>' END)
            || quote_literal(p_after_at) || ', ' || quote_literal(p_after_id) || ')');
    v_span := nullif(concat(' AND processed_at >= ' || quote_literal(p_processed_from),
                            ' AND processed_at <= ' || quote_literal(p_processed_to)), '');
    -- To be given a limit and columns. The limit stands in each part, too: else the planner takes them for one table,
    -- and sorts it.
    SELECT format('SELECT %%2$s FROM (%s) n %s LIMIT %%1$s', string_agg(
               format('(SELECT %%2$s %s%s AND status = %L%s %s LIMIT %%1$s)', v_of, v_keyed, s,
                      -- Those that wait for their first attempt may be many.
                      CASE WHEN s = 'pending' AND v_span IS NOT NULL THEN ' AND processed_at IS NOT NULL' END, v_order),
               ' UNION ALL '), v_order)
      INTO v_next FROM unnest(v_statuses) s;
    -- Ids are visible ASCII: behind the last one with the prefix comes the prefix with a character beyond that.
    v_begins := ' AND client_event_id >= ' || quote_literal(v_prefix)
             || ' AND client_event_id < ' || quote_literal(v_prefix || chr(127));
    v_fits := concat(v_keyed, v_span, format(' AND status = ANY (%L)', v_statuses),
                     ' AND delivery_id = ' || quote_literal(p_delivery),
                     ' AND client_event_id = ' || quote_literal(p_event),
                     ' AND (true' || v_begins || format(' OR destination_id = ANY (%L))', v_searched));

    v_tries := array_remove(ARRAY[v_span, CASE WHEN v_span IS NULL OR v_searched = '{}' THEN v_begins END], NULL);
    IF p_delivery IS NOT NULL THEN
        v_path := format(' AND version = %s AND delivery_id = %L', v_version, p_delivery);
    ELSIF p_event IS NOT NULL THEN
        v_path := format(' AND client_event_id = %L', p_event);
    ELSIF v_span IS NULL AND v_begins IS NULL THEN
        RETURN QUERY EXECUTE format(v_next, p_most, '*');
        RETURN;
    END IF;
    WHILE v_path IS NULL LOOP
        EXECUTE format('SELECT array_agg(ROW(p.*)::delivery_log) FROM (SELECT * FROM (%s) n WHERE true%s %s) p',
                       format(v_next, v_budget, '*'), v_fits, v_page) INTO v_found;
        IF coalesce(cardinality(v_found), 0) < p_most THEN
            EXECUTE format('SELECT count(*) FROM (%s) n', format(v_next, v_budget, 'received_at, delivery_id')) INTO v_number;
        END IF;
        IF cardinality(v_found) = p_most OR v_number < v_budget THEN  -- a page, or all there is
            RETURN QUERY SELECT * FROM unnest(v_found);
            RETURN;
        END IF;
        FOREACH v_try IN ARRAY v_tries LOOP
            EXECUTE format('SELECT count(*) FROM (SELECT %s%s LIMIT %s) f', v_of, v_try, 4 * v_budget) INTO v_number;
            IF v_number < 4 * v_budget THEN
                v_path := v_try;
                EXIT;
            END IF;
        END LOOP;
        v_budget := 8 * v_budget;
    END LOOP;

    v_next := format('SELECT * FROM (SELECT * %s%s OFFSET 0) f WHERE true%s', v_of, v_path, v_fits);
    IF v_path = v_begins AND v_searched <> '{}' THEN  -- and the next rows of each destination that was searched for
        v_next := format(
            'SELECT * FROM ((%1$s AND destination_id <> ALL (%2$L) %3$s) UNION ALL
                            (SELECT l.* FROM unnest(%2$L::uuid[]) d, unnest(%4$L::text[]) s,
                                    LATERAL (SELECT * %5$s AND destination_id = d AND status = s%6$s %3$s) l)) f',
            v_next, v_searched, v_page, v_statuses, v_of, v_keyed);
    END IF;
    RETURN QUERY EXECUTE format('%s %s', v_next, v_page);
END
$$;
