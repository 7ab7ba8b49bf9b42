-- Times are milliseconds since 1970-01-01T00:00:00Z, prices minor units, ids UUIDs as text.

CREATE TABLE meta (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE carts (
    owner_id TEXT PRIMARY KEY,
    guest INTEGER NOT NULL,
    version INTEGER NOT NULL,
    lines TEXT NOT NULL, -- JSON: [{product_id, name, quantity, price, currency}]
    updated_at INTEGER NOT NULL,
    merged_into TEXT,
    abandoned INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX carts_left_lying ON carts (updated_at) WHERE lines <> '[]' AND abandoned = 0 AND merged_into IS NULL;

-- A deleted product stays, so that carts and orders that name it can be explained; its sku is free again.
CREATE TABLE products (
    id TEXT PRIMARY KEY,
    sku TEXT,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    price INTEGER NOT NULL,
    currency TEXT NOT NULL,
    category TEXT,
    tags TEXT NOT NULL, -- JSON: [text]
    image_url TEXT,
    attributes TEXT NOT NULL, -- JSON: {name: text, number or boolean}
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX products_by_sku ON products (sku) WHERE deleted = 0;

CREATE TABLE stock (
    product_id TEXT PRIMARY KEY,
    on_hand INTEGER NOT NULL,
    reserved INTEGER NOT NULL,
    version INTEGER NOT NULL,
    last_movement INTEGER NOT NULL,
    CHECK (reserved >= 0 AND reserved <= on_hand)
) STRICT, WITHOUT ROWID;

-- Append-only: `on_hand` and `reserved` of stock are the sums of these.
CREATE TABLE movements (
    product_id TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    on_hand_delta INTEGER NOT NULL,
    reserved_delta INTEGER NOT NULL,
    order_id TEXT,
    reference TEXT,
    reason TEXT,
    at INTEGER NOT NULL,
    PRIMARY KEY (product_id, sequence)
) STRICT, WITHOUT ROWID;

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    email TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL,
    password_hash TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    events INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX users_admins ON users (role) WHERE role = 'admin';

CREATE TABLE sessions (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    refresh_hash BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sessions_by_user ON sessions (user_id);
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;

-- Rows in the order they come, and a slim index over them: answers are long, and keys come in any order.
CREATE TABLE idempotency_keys (
    owner_id TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint BLOB NOT NULL,
    status INTEGER NOT NULL,
    body BLOB NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (owner_id, key)
) STRICT;

CREATE INDEX idempotency_keys_by_age ON idempotency_keys (at);

CREATE TABLE outbox (
    position INTEGER PRIMARY KEY, -- commit order
    id TEXT NOT NULL UNIQUE,
    type TEXT NOT NULL,
    subject TEXT NOT NULL,
    audience TEXT NOT NULL, -- everyone, owner or nobody
    owner_id TEXT, -- whose event it is, for the audience `owner`
    body TEXT NOT NULL -- JSON: the CloudEvent
) STRICT;
