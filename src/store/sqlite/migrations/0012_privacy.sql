-- The addresses that customers keep. JSON: [{id, version, name, line1, ...}]
CREATE TABLE address_books (
    user_id TEXT PRIMARY KEY,
    addresses TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whether the buyer's account was deleted, and with it who ordered.
ALTER TABLE orders ADD COLUMN anonymized INTEGER NOT NULL DEFAULT 0;

-- The account that a reply tells of, if it is not the owner.
ALTER TABLE idempotency_keys ADD COLUMN about_id TEXT;
CREATE INDEX idempotency_keys_about ON idempotency_keys (about_id) WHERE about_id IS NOT NULL;

-- Events no longer tell who somebody is.
UPDATE outbox SET body = json_remove(body, '$.data.email', '$.data.name')
WHERE type = 'auth.user.registered';
