-- JSON: {status, amount, refunds: [{id, amount, status, reason, at}]}, in minor units. Orders from
-- before there were refunds have none.
ALTER TABLE orders ADD COLUMN payment TEXT;
