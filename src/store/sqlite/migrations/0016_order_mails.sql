-- A mail about an order has no recipient (an empty text): its buyer's address is looked up when it
-- is sent.
ALTER TABLE mails ADD COLUMN order_id TEXT;
-- The shipment or the refund that it is about.
ALTER TABLE mails ADD COLUMN part_id TEXT;
