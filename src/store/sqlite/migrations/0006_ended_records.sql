CREATE INDEX sessions_by_expiry ON sessions (expires_at);
CREATE INDEX carts_of_guests ON carts (owner_id) WHERE guest = 1;
