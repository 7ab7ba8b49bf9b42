ALTER TABLE users ADD COLUMN email_verified INTEGER NOT NULL DEFAULT 0;
-- For each token that was sent by mail 57 bytes: flags, its hash, the mail's id, and the time of
-- issue (big-endian).
ALTER TABLE users ADD COLUMN mail_tokens BLOB NOT NULL DEFAULT x'';

-- Mails that wait to be sent. They have no text and no token.
CREATE TABLE mails (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    recipient TEXT NOT NULL,
    user_id TEXT,
    is_requested INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX mails_by_due_time ON mails (due_at);
