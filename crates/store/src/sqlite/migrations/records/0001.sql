-- Records, messages and dead letters.

CREATE TABLE counters (
    name  TEXT PRIMARY KEY NOT NULL,
    value INTEGER NOT NULL
) STRICT;
INSERT INTO counters (name, value) VALUES ('revision', 0), ('claim', 0);

CREATE TABLE records (
    key      TEXT PRIMARY KEY NOT NULL,
    revision INTEGER NOT NULL,
    value    BLOB NOT NULL
) STRICT;

-- `ready_at` is the message's own time, or the end of the lease while it is claimed, so that one index answers
-- what may be claimed. `is_held_back` says that an earlier message with the same ordering key is still there.
CREATE TABLE messages (
    sequence     INTEGER PRIMARY KEY,
    id           TEXT NOT NULL UNIQUE,
    lane         TEXT NOT NULL,
    ordering_key TEXT,
    is_held_back INTEGER NOT NULL,
    enqueued_at  INTEGER NOT NULL,
    ready_at     INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    claim        INTEGER,
    body         BLOB NOT NULL
) STRICT;
CREATE INDEX messages_ready ON messages (lane, ready_at, sequence) WHERE is_held_back = 0;
CREATE INDEX messages_ordered ON messages (lane, ordering_key, sequence) WHERE ordering_key IS NOT NULL;

CREATE TABLE dead_letters (
    id           TEXT PRIMARY KEY NOT NULL,
    lane         TEXT NOT NULL,
    ordering_key TEXT,
    enqueued_at  INTEGER NOT NULL,
    attempts     INTEGER NOT NULL,
    dead_at      INTEGER NOT NULL,
    reason       TEXT NOT NULL,
    body         BLOB NOT NULL
) STRICT;
CREATE INDEX dead_letters_by_lane ON dead_letters (lane, id);
