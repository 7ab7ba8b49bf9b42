CREATE INDEX movements_of_order ON movements (order_id) WHERE order_id IS NOT NULL;
