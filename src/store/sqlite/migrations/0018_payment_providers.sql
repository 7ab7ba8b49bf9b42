-- When the payment provider is to be asked, and the id that it gave the payment.
ALTER TABLE orders ADD COLUMN payment_due INTEGER;
ALTER TABLE orders ADD COLUMN payment_intent TEXT;

CREATE INDEX orders_payment_due ON orders (payment_due) WHERE payment_due IS NOT NULL;
CREATE INDEX orders_payment_intent ON orders (payment_intent) WHERE payment_intent IS NOT NULL;
