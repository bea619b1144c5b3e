-- What plugins keep. A deleted key stays with its version and no value, so that the version is not given again.
CREATE TABLE state (
    plugin TEXT NOT NULL, key TEXT NOT NULL, version INTEGER NOT NULL,
    value BLOB, PRIMARY KEY (plugin, key)
) WITHOUT ROWID;
