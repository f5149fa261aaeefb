-- The operations that change several things at once, as functions: a call is one round trip and one transaction, so that
-- many callers can share a connection and nothing can be left half done.
--
-- A refusal is an exception with a code of ours, which undoes the whole call:
--   AL001  conflict; the message is the key of the record or the id of the message
--   AL002  the claim is no longer held
--   AL003  not found; the message says what
--   AL004  the message has an ordering key and keeps its lane; the message is its id
--   40001  somebody else was faster in a way that only starting again resolves
--
-- Locks: whoever changes or expects something of a record, or changes who is first among the messages with an ordering
-- key, holds an advisory lock on that name until the end of its transaction. All names of a call are locked at once and in
-- one order, before any row is, so calls do not wait for each other in a circle. Names share 1024 locks, which bounds
-- the memory that a large batch takes in the server.

CREATE FUNCTION lock_names(names text[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- The first number keeps our locks apart from those of others in the same database.
    PERFORM pg_advisory_xact_lock(1634497633, stripe) FROM (
        SELECT DISTINCT hashtext(name) & 1023 AS stripe FROM unnest(names) AS name ORDER BY stripe
    ) AS stripes;
END $$;

-- The name under which the messages of a lane with one ordering key are locked.
CREATE FUNCTION stream_name(lane text, ordering_key bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT lane || '/' || encode(ordering_key, 'hex')
$$;

CREATE FUNCTION count_up(new_accepted bigint, new_done bigint, new_cancelled bigint, new_purged bigint)
RETURNS void LANGUAGE sql AS $$
    UPDATE counters SET accepted = accepted + new_accepted, done = done + new_done,
                        cancelled = cancelled + new_cancelled, purged = purged + new_purged
    WHERE shard = pg_backend_pid() & 63
$$;

-- A batch: records first, then messages; a message with a `dead_at` is a dead letter. `expected` is null for any state,
-- -1 for none, else a revision; a null value deletes.
CREATE TYPE new_record AS (key text, value bytea, expected bigint, expires_at bigint);
CREATE TYPE new_message AS (
    id text, lane text, ordering_key bytea, enqueued_at bigint, ready_at bigint,
    attempts integer, dead_at bigint, reason bytea, trail bytea, body bytea
);

CREATE FUNCTION names_of(writes new_record[], new_messages new_message[]) RETURNS text[] LANGUAGE sql AS $$
    SELECT array(
        SELECT key FROM unnest(writes)
        UNION ALL
        SELECT stream_name(lane, ordering_key) FROM unnest(new_messages)
        WHERE ordering_key IS NOT NULL AND dead_at IS NULL
    )
$$;

CREATE FUNCTION write_records(writes new_record[], new_revision bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    conflict text;
BEGIN
    SELECT w.key INTO conflict
    FROM unnest(writes) WITH ORDINALITY AS w (key, value, expected, expires_at, number)
    LEFT JOIN records r ON r.key = w.key
    WHERE w.expected IS NOT NULL AND coalesce(r.revision, -1) <> w.expected
    ORDER BY w.number LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL001', MESSAGE = conflict;
    END IF;
    -- The last write of each key counts.
    WITH last AS MATERIALIZED (
        SELECT DISTINCT ON (w.key) w.key, w.value, w.expires_at
        FROM unnest(writes) WITH ORDINALITY AS w (key, value, expected, expires_at, number)
        ORDER BY w.key, w.number DESC
    ), gone AS (
        DELETE FROM records r USING last WHERE r.key = last.key AND last.value IS NULL
    )
    INSERT INTO records (key, revision, value, expires_at)
    SELECT last.key, new_revision, last.value, last.expires_at FROM last WHERE last.value IS NOT NULL
    ON CONFLICT (key) DO UPDATE
    SET revision = excluded.revision, value = excluded.value, expires_at = excluded.expires_at;
END $$;

CREATE FUNCTION add_messages(new_messages new_message[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    added bigint;
    taken text;
BEGIN
    SELECT m.id INTO taken FROM (
        SELECT n.id, n.number, row_number() OVER (PARTITION BY n.id ORDER BY n.number) AS nth
        FROM unnest(new_messages) WITH ORDINALITY
             AS n (id, lane, ordering_key, enqueued_at, ready_at, attempts, dead_at, reason, trail, body, number)
    ) AS m
    WHERE m.nth > 1 OR EXISTS (SELECT FROM messages WHERE messages.id = m.id)
    ORDER BY m.number LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL001', MESSAGE = taken;
    END IF;
    INSERT INTO messages (place, id, lane, ordering_key, is_held_back, enqueued_at, ready_at, attempts,
                          dead_at, reason, trail, body)
    SELECT nextval('places'), m.id, m.lane, m.ordering_key,
           m.ordering_key IS NOT NULL AND m.dead_at IS NULL AND (m.nth > 1 OR EXISTS (
               SELECT FROM messages earlier
               WHERE earlier.lane = m.lane AND earlier.ordering_key = m.ordering_key AND earlier.dead_at IS NULL
           )),
           m.enqueued_at, m.ready_at, m.attempts, m.dead_at, m.reason, m.trail, m.body
    FROM (
        SELECT n.*, row_number() OVER (
            PARTITION BY n.lane, n.ordering_key, n.dead_at IS NULL ORDER BY n.number
        ) AS nth
        FROM unnest(new_messages) WITH ORDINALITY
             AS n (id, lane, ordering_key, enqueued_at, ready_at, attempts, dead_at, reason, trail, body, number)
        ORDER BY n.number
    ) AS m
    ON CONFLICT (id) DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    IF added < cardinality(new_messages) THEN
        RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'an id was taken meanwhile';
    END IF;
    PERFORM count_up(added, 0, 0, 0);
END $$;

-- Applies a batch whose names are locked; returns its revision.
CREATE FUNCTION apply_batch(writes new_record[], new_messages new_message[]) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    new_revision bigint := nextval('revisions');
BEGIN
    IF cardinality(writes) > 0 THEN
        PERFORM write_records(writes, new_revision);
    END IF;
    IF cardinality(new_messages) > 0 THEN
        PERFORM add_messages(new_messages);
    END IF;
    RETURN new_revision;
END $$;

CREATE FUNCTION commit_batch(writes new_record[], new_messages new_message[]) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_names(names_of(writes, new_messages));
    RETURN apply_batch(writes, new_messages);
END $$;

-- Lets the next message with an ordering key come forward, after the first one went.
CREATE FUNCTION bring_forward(of_lane text, of_key bytea) RETURNS void LANGUAGE sql AS $$
    UPDATE messages SET is_held_back = false
    WHERE is_held_back AND place = (
        SELECT min(place) FROM messages WHERE lane = of_lane AND ordering_key = of_key AND dead_at IS NULL
    )
$$;

-- `outcome` is 'done', 'retry', 'release' or 'dead'; the other arguments are null where it does not need them.
CREATE FUNCTION settle(
    of_id text, of_claim bigint, outcome text, at bigint, to_lane text, with_reason bytea, with_trail bytea,
    writes new_record[], new_messages new_message[]
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_lane text;
    found_key bytea;
    settled bigint;
BEGIN
    SELECT lane, ordering_key INTO found_lane, found_key FROM messages WHERE id = of_id AND claim = of_claim;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL002', MESSAGE = of_id;
    END IF;
    IF found_key IS NOT NULL AND to_lane <> found_lane THEN
        RAISE EXCEPTION USING ERRCODE = 'AL004', MESSAGE = of_id;
    END IF;
    PERFORM lock_names(array_append(names_of(writes, new_messages), stream_name(found_lane, found_key)));
    PERFORM apply_batch(writes, new_messages);
    -- Whoever claimed it meanwhile gave it another number: nothing is found then, and all of this is undone.
    CASE outcome
        WHEN 'done' THEN
            DELETE FROM messages WHERE id = of_id AND claim = of_claim;
        WHEN 'dead' THEN
            UPDATE messages SET claim = NULL, dead_at = at, reason = with_reason, trail = with_trail
            WHERE id = of_id AND claim = of_claim;
        ELSE
            UPDATE messages
            SET claim = NULL, ready_at = at, lane = coalesce(to_lane, lane), trail = with_trail,
                attempts = attempts - CASE outcome WHEN 'release' THEN 1 ELSE 0 END
            WHERE id = of_id AND claim = of_claim;
    END CASE;
    GET DIAGNOSTICS settled = ROW_COUNT;
    IF settled = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'AL002', MESSAGE = of_id;
    END IF;
    IF outcome = 'done' THEN
        PERFORM count_up(0, 1, 0, 0);
    END IF;
    IF found_key IS NOT NULL AND outcome IN ('done', 'dead') THEN
        PERFORM bring_forward(found_lane, found_key);
    END IF;
END $$;

CREATE FUNCTION cancel(of_id text, at bigint, writes new_record[], new_messages new_message[])
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found_lane text;
    found_key bytea;
    locked messages;
BEGIN
    SELECT lane, ordering_key INTO found_lane, found_key FROM messages WHERE id = of_id AND dead_at IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL003', MESSAGE = 'message ' || of_id;
    END IF;
    PERFORM lock_names(array_append(names_of(writes, new_messages), stream_name(found_lane, found_key)));
    SELECT * INTO locked FROM messages WHERE id = of_id AND dead_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL003', MESSAGE = 'message ' || of_id;
    END IF;
    IF (locked.lane, locked.ordering_key) IS DISTINCT FROM (found_lane, found_key) THEN
        RAISE EXCEPTION USING ERRCODE = '40001', MESSAGE = 'the message was moved meanwhile';
    END IF;
    IF locked.claim IS NOT NULL AND locked.ready_at > at THEN
        RETURN false;
    END IF;
    PERFORM apply_batch(writes, new_messages);
    DELETE FROM messages WHERE place = locked.place;
    PERFORM count_up(0, 0, 1, 0);
    IF found_key IS NOT NULL THEN
        PERFORM bring_forward(found_lane, found_key);
    END IF;
    RETURN true;
END $$;

CREATE FUNCTION redrive(of_id text, to_lane text, at bigint, with_trail bytea) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found_key bytea;
BEGIN
    SELECT ordering_key INTO found_key FROM messages WHERE id = of_id AND dead_at IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL003', MESSAGE = 'dead letter ' || of_id;
    END IF;
    PERFORM lock_names(ARRAY[stream_name(to_lane, found_key)]);
    UPDATE messages
    SET place = nextval('places'), lane = to_lane, ready_at = at, attempts = 0, claim = NULL,
        dead_at = NULL, reason = NULL, trail = with_trail,
        is_held_back = EXISTS (
            SELECT FROM messages other
            WHERE other.lane = to_lane AND other.ordering_key = found_key AND other.dead_at IS NULL
        )
    WHERE id = of_id AND dead_at IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL003', MESSAGE = 'dead letter ' || of_id;
    END IF;
END $$;

CREATE FUNCTION purge(of_id text, writes new_record[], new_messages new_message[])
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM lock_names(names_of(writes, new_messages));
    DELETE FROM messages WHERE id = of_id AND dead_at IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION USING ERRCODE = 'AL003', MESSAGE = 'dead letter ' || of_id;
    END IF;
    PERFORM apply_batch(writes, new_messages);
    PERFORM count_up(0, 0, 0, 1);
END $$;

-- Takes messages, the longest available first. A last row without an id has in `ready_at` when the next message of the lane
-- may be claimed. Rows that somebody else is just claiming are passed over.
CREATE FUNCTION claim_messages(of_lane text, most bigint, at bigint, lease_until bigint)
RETURNS TABLE (
    id text, claim bigint, ordering_key bytea, attempts integer, enqueued_at bigint, ready_at bigint,
    trail bytea, body bytea
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    RETURN QUERY WITH ready AS MATERIALIZED (
        SELECT place, ready_at AS since FROM messages
        WHERE lane = of_lane AND NOT is_held_back AND dead_at IS NULL AND ready_at <= at
        ORDER BY ready_at, place LIMIT most FOR UPDATE SKIP LOCKED
    ), number AS MATERIALIZED (
        SELECT nextval('claims') AS claim WHERE EXISTS (SELECT FROM ready)
    ), taken AS (
        UPDATE messages m SET claim = number.claim, attempts = m.attempts + 1, ready_at = lease_until
        FROM ready, number WHERE m.place = ready.place
        RETURNING m.*, ready.since
    )
    SELECT taken.id, taken.claim, taken.ordering_key, taken.attempts, taken.enqueued_at, taken.ready_at,
           taken.trail, taken.body
    FROM taken ORDER BY taken.since, taken.place;
    RETURN QUERY SELECT NULL::text, NULL::bigint, NULL::bytea, NULL::integer, NULL::bigint, min(m.ready_at),
                        NULL::bytea, NULL::bytea
    FROM messages m WHERE m.lane = of_lane AND NOT m.is_held_back AND m.dead_at IS NULL;
END $$;
