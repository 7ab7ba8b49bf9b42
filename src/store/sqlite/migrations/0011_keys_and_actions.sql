-- API keys. The key itself is not stored. A deleted one stays, since actions name it.
CREATE TABLE api_keys (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    scopes TEXT NOT NULL, -- names, separated by spaces
    prefix TEXT NOT NULL,
    hash BLOB NOT NULL, -- SHA-256
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER,
    deleted_at INTEGER,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX api_keys_of_maker ON api_keys (created_by) WHERE deleted_at IS NULL;

-- Append-only: who changed what with rights that customers do not have.
CREATE TABLE actions (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL, -- user, api_key or cli
    actor_id TEXT,
    operation TEXT NOT NULL,
    subject TEXT NOT NULL,
    request_id TEXT,
    version_before INTEGER,
    version_after INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX actions_by_time ON actions (at, id);
CREATE INDEX actions_of_actor ON actions (actor_id, at, id);
CREATE INDEX actions_on_subject ON actions (subject, at, id);

-- The member of staff, the key or the command line behind a change: 'user', 'api_key' or 'cli', and
-- an id unless it is the command line.
ALTER TABLE movements ADD COLUMN actor TEXT;
ALTER TABLE movements ADD COLUMN actor_id TEXT;
ALTER TABLE orders ADD COLUMN actor TEXT;
ALTER TABLE orders ADD COLUMN actor_id TEXT;
