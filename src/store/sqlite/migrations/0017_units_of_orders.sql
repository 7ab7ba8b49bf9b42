-- The units in all lines, so that a checkout counts a buyer's unpaid units without reading orders.
ALTER TABLE orders ADD COLUMN units INTEGER NOT NULL DEFAULT 0;
UPDATE orders SET units =
    (SELECT coalesce(sum(value ->> 'quantity'), 0) FROM json_each(orders.lines));
DROP INDEX orders_pending_of_user;
CREATE INDEX orders_pending_of_user ON orders (user_id, units) WHERE status = 'pending_payment';

-- With IN, each insert of an order would build a table of the three values first.
DROP INDEX orders_bought_of_user;
CREATE INDEX orders_bought_of_user ON orders (user_id)
    WHERE status <> 'pending_payment' AND status <> 'cancelled' AND status <> 'expired';
