-- Finished runs, many to a row: see the module `history`. `place` is the bucket of time in its upper bits and a number
-- in its lower ones. What is in `runs` is moved by `history::upgrade`, which then drops that table.

CREATE TABLE blocks (
    place      INTEGER PRIMARY KEY,
    has_failed INTEGER NOT NULL,
    runs       BLOB NOT NULL
) STRICT;
-- What went wrong is rare and what people look for.
CREATE INDEX failed_blocks ON blocks (place) WHERE has_failed;

-- The functions whose runs a block holds.
CREATE TABLE block_functions (
    namespace  TEXT NOT NULL,
    function   TEXT NOT NULL,
    place      INTEGER NOT NULL,
    has_failed INTEGER NOT NULL,
    PRIMARY KEY (namespace, function, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX failed_block_functions ON block_functions (namespace, function, place) WHERE has_failed;

-- Where to find the runs whose id does not tell their bucket.
CREATE TABLE strays (
    id    TEXT NOT NULL,
    place INTEGER NOT NULL,
    PRIMARY KEY (id, place)
) STRICT, WITHOUT ROWID;

-- One row: how many runs there are.
CREATE TABLE total (runs INTEGER NOT NULL) STRICT;
INSERT INTO total VALUES (0);
