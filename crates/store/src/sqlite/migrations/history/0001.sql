-- Finished runs. `place` orders them by their start and is the only index by time: see the module `history`.

CREATE TABLE runs (
    place     INTEGER PRIMARY KEY,
    id        TEXT NOT NULL,
    attempt   INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    function  TEXT NOT NULL,
    version   INTEGER NOT NULL,
    status    TEXT NOT NULL,
    run       TEXT NOT NULL,
    UNIQUE (id, attempt)
) STRICT;
CREATE INDEX runs_by_function ON runs (namespace, function);
-- What went wrong is rare and what people look for.
CREATE INDEX runs_not_done ON runs (namespace, function, status) WHERE status <> 'done';
