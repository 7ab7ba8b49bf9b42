-- Endpoints of webhooks. The secrets in them are encrypted.
CREATE TABLE webhooks (
    id TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    record TEXT NOT NULL -- JSON
) STRICT, WITHOUT ROWID;

-- How far an endpoint has come.
CREATE TABLE webhook_states (
    webhook_id TEXT PRIMARY KEY,
    node TEXT NOT NULL,
    cursor TEXT,
    failing_since INTEGER
) STRICT, WITHOUT ROWID;

-- Events that an endpoint has not taken yet: with `due_at` they wait, without it the last attempt
-- has failed.
CREATE TABLE webhook_deliveries (
    webhook_id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    body TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    due_at INTEGER,
    requested INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (webhook_id, event_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, due_at)
    WHERE due_at IS NOT NULL;
CREATE INDEX webhook_deliveries_requested ON webhook_deliveries (webhook_id) WHERE requested = 1;

CREATE TABLE webhook_attempts (
    webhook_id TEXT NOT NULL,
    id TEXT NOT NULL,
    event_id TEXT NOT NULL,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    status TEXT NOT NULL,
    status_code INTEGER,
    error TEXT,
    duration_ms INTEGER NOT NULL,
    at INTEGER NOT NULL,
    next_at INTEGER,
    position INTEGER,
    PRIMARY KEY (webhook_id, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_attempts_of_event ON webhook_attempts (webhook_id, event_id, id);
