-- Tables and sequences. What is compared and ordered by bytes is of collation "C"; what may hold any character, zero
-- included, is bytea.

CREATE SEQUENCE revisions;
CREATE SEQUENCE claims;
CREATE SEQUENCE places;

CREATE TABLE records (
    key        text COLLATE "C" PRIMARY KEY,
    revision   bigint NOT NULL,
    value      bytea NOT NULL,
    expires_at bigint
);
CREATE INDEX records_expiring ON records (expires_at) WHERE expires_at IS NOT NULL;

-- Messages and dead letters in one table, so that one index keeps their ids apart; a dead letter has `dead_at`. `place`
-- orders those with the same ordering key. `ready_at` is the message's own time, or the end of the lease while it is
-- claimed. `is_held_back` says that an earlier message with the same ordering key is still there.
CREATE TABLE messages (
    place        bigint PRIMARY KEY DEFAULT nextval('places'),
    id           text COLLATE "C" NOT NULL UNIQUE,
    lane         text COLLATE "C" NOT NULL,
    ordering_key bytea,
    is_held_back boolean NOT NULL,
    enqueued_at  bigint NOT NULL,
    ready_at     bigint NOT NULL,
    attempts     integer NOT NULL,
    claim        bigint,
    dead_at      bigint,
    reason       bytea,
    trail        bytea NOT NULL,
    body         bytea NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX messages_ready ON messages (lane, ready_at, place) WHERE NOT is_held_back AND dead_at IS NULL;
CREATE INDEX messages_ordered ON messages (lane, ordering_key, place)
    WHERE ordering_key IS NOT NULL AND dead_at IS NULL;
CREATE INDEX messages_dead ON messages (lane, id) WHERE dead_at IS NOT NULL;

-- What came in and went. In several rows, of which a connection always takes the same, so that producers do not wait for
-- one another; their sum counts.
CREATE TABLE counters (
    shard     integer PRIMARY KEY,
    accepted  bigint NOT NULL DEFAULT 0,
    done      bigint NOT NULL DEFAULT 0,
    cancelled bigint NOT NULL DEFAULT 0,
    purged    bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 10);
INSERT INTO counters (shard) SELECT generate_series(0, 63);

-- Finished runs. `place` orders those that started at the same moment by when they were appended.
CREATE SEQUENCE run_places;
CREATE TABLE runs (
    id         text COLLATE "C" NOT NULL,
    attempt    bigint NOT NULL,
    started_at bigint NOT NULL,
    place      bigint NOT NULL DEFAULT nextval('run_places'),
    namespace  text COLLATE "C" NOT NULL,
    function   text COLLATE "C" NOT NULL,
    version    bigint NOT NULL,
    status     text COLLATE "C" NOT NULL,
    run        text NOT NULL,
    PRIMARY KEY (id, attempt)
);
CREATE INDEX runs_by_start ON runs (started_at, place);
CREATE INDEX runs_by_function ON runs (namespace, function, started_at, place);
-- What went wrong is rare and what people look for.
CREATE INDEX runs_not_done ON runs (started_at, place) WHERE status <> 'done';
