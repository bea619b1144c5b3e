-- Whose each account is, as its first endpoint said last. One row for each connection that something is compared with.
CREATE TABLE identities (
    connection TEXT PRIMARY KEY,
    identity TEXT NOT NULL
) STRICT, WITHOUT ROWID;
