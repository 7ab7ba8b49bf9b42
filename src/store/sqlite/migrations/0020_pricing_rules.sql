-- Shipping methods and tax rates. A deleted rule stays, without its unique key: the sum of all
-- versions says how often rules were changed.
CREATE TABLE pricing_rules (
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    unique_key TEXT,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    contents TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX pricing_rules_key ON pricing_rules (unique_key) WHERE unique_key IS NOT NULL;
