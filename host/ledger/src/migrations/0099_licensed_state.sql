-- The plugins whose state may hold licensed data, since a manifest was in force that lets them read some.
CREATE TABLE licensed_state (
    plugin TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID;
