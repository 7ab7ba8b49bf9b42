-- JSON: [{id, items: [{product_id, quantity}], carrier, tracking, reference, at}]
ALTER TABLE orders ADD COLUMN shipments TEXT NOT NULL DEFAULT '[]';

-- Orders that are partly shipped count towards a purchase limit, too.
CREATE INDEX orders_bought_of_user ON orders (user_id)
    WHERE status IN ('paid', 'partially_fulfilled', 'fulfilled');
DROP INDEX orders_paid_of_user;

-- What is to be shipped, among many orders that were.
CREATE INDEX orders_paid ON orders (id) WHERE status = 'paid';
CREATE INDEX orders_partially_fulfilled ON orders (id) WHERE status = 'partially_fulfilled';
