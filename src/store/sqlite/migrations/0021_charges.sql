-- What carts and orders come to besides the prices of their lines: a cart's codes and destination,
-- and an order's discounts, shipping and taxes, as JSON.
ALTER TABLE carts ADD COLUMN codes TEXT;
ALTER TABLE carts ADD COLUMN shipping TEXT;
ALTER TABLE orders ADD COLUMN charges TEXT;

-- How often promotions are used: by how many orders that are neither cancelled nor expired.
CREATE TABLE promotion_uses (
    promotion_id TEXT PRIMARY KEY,
    used INTEGER NOT NULL,
    version INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
