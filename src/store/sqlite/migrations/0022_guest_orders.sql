-- Where mails about an order go, whom it is billed to (JSON: {name: text}), and whether its buyer is
-- a guest, who has no account.
ALTER TABLE orders ADD COLUMN email TEXT;
ALTER TABLE orders ADD COLUMN billing_address TEXT;
ALTER TABLE orders ADD COLUMN guest INTEGER NOT NULL DEFAULT 0;

-- So far, mails went to the address of the account.
UPDATE orders SET email = (SELECT email FROM users WHERE users.id = orders.user_id)
WHERE anonymized = 0;

CREATE INDEX orders_of_email ON orders (email, id) WHERE email IS NOT NULL;
