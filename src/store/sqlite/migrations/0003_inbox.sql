-- Messages from other systems that were carried out.
CREATE TABLE inbox (
    id TEXT PRIMARY KEY,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX inbox_by_age ON inbox (at);
