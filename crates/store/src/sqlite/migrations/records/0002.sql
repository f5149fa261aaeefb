-- Trails of messages, records that go by themselves, and totals that must balance.

ALTER TABLE messages ADD COLUMN trail BLOB NOT NULL DEFAULT x'';
ALTER TABLE dead_letters ADD COLUMN trail BLOB NOT NULL DEFAULT x'';
-- What is claimed is little beside what waits, and is counted often.
CREATE INDEX messages_claimed ON messages (ready_at) WHERE claim IS NOT NULL;

ALTER TABLE records ADD COLUMN expires_at INTEGER;
CREATE INDEX records_expiring ON records (expires_at) WHERE expires_at IS NOT NULL;

-- What came in before was not counted: it begins with what is here.
INSERT INTO counters (name, value) VALUES
    ('accepted', (SELECT count(*) FROM messages) + (SELECT count(*) FROM dead_letters)),
    ('done', 0), ('cancelled', 0), ('purged', 0);
