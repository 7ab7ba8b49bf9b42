-- What a member of staff may do: names of scopes, separated by spaces.
ALTER TABLE users ADD COLUMN scopes TEXT NOT NULL DEFAULT '';
ALTER TABLE users ADD COLUMN blocked INTEGER NOT NULL DEFAULT 0;
ALTER TABLE users ADD COLUMN last_login_at INTEGER;

-- Every node keeps these in memory.
CREATE INDEX users_with_special_rights ON users (id) WHERE role <> 'customer' OR blocked = 1;
