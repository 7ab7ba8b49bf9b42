-- The most units that one buyer gets, over all orders that are neither cancelled nor expired.
ALTER TABLE products ADD COLUMN purchase_limit INTEGER;

-- With `orders_pending_of_user`: the orders that count towards a purchase limit.
CREATE INDEX orders_paid_of_user ON orders (user_id) WHERE status IN ('paid', 'fulfilled');
