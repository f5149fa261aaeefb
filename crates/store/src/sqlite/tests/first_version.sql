-- What a file of version 1 may hold.
UPDATE counters SET value = 7 WHERE name = 'revision';
UPDATE counters SET value = 3 WHERE name = 'claim';
INSERT INTO records (key, revision, value) VALUES ('a', 7, x'01');
INSERT INTO messages (id, lane, ordering_key, is_held_back, enqueued_at, ready_at, attempts, claim, body) VALUES
    ('claimed', 'lane', NULL, 0, 0, 99, 1, 3, x'02'),
    ('first', 'lane', 'k', 0, 0, 0, 0, NULL, x'03'),
    ('second', 'lane', 'k', 1, 0, 0, 0, NULL, x'04');
INSERT INTO dead_letters (id, lane, ordering_key, enqueued_at, attempts, dead_at, reason, body) VALUES
    ('dead', 'lane', NULL, 0, 5, 9, 'why', x'05');
