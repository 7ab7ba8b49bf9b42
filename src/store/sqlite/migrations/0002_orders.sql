-- Ids grow with time: their order is that in which orders were placed.
CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    user_id TEXT NOT NULL,
    status TEXT NOT NULL,
    version INTEGER NOT NULL,
    currency TEXT NOT NULL,
    lines TEXT NOT NULL, -- JSON: [{product_id, sku, name, quantity, unit_price}], in minor units
    payment_method TEXT NOT NULL,
    payment_reference TEXT,
    shipping_address TEXT, -- JSON: {name: text}
    placed_at INTEGER NOT NULL,
    expires_at INTEGER,
    updated_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX orders_of_user ON orders (user_id, id);
CREATE INDEX orders_pending_of_user ON orders (user_id) WHERE status = 'pending_payment';
CREATE INDEX orders_due ON orders (expires_at) WHERE status = 'pending_payment';
