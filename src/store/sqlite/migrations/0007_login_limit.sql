-- Failed logins of the last minute. The key is a keyed hash of an account, a network, or both.
CREATE TABLE login_failures (
    key BLOB PRIMARY KEY,
    started_at INTEGER NOT NULL,
    failures INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX login_failures_by_age ON login_failures (started_at);

-- For each network 24 bytes: a keyed hash of account and network, and the last login (big-endian).
ALTER TABLE users ADD COLUMN known_networks BLOB NOT NULL DEFAULT x'';
