-- What is in force: the manifest of each plugin, the guardrails, the configuration. `text`: JSON without secrets.
-- `confirmed` 0: it came from a backup, and was not approved since.
CREATE TABLE in_force (
    kind TEXT NOT NULL, name TEXT NOT NULL, digest TEXT NOT NULL, text TEXT NOT NULL, by TEXT NOT NULL,
    at_ms INTEGER NOT NULL, confirmed INTEGER NOT NULL, PRIMARY KEY (kind, name)
) WITHOUT ROWID;

-- People who may not be one of the two who approve: who owns the changed file, who asked for the reload.
CREATE TABLE interested (
    approval TEXT NOT NULL REFERENCES approvals (id) ON DELETE CASCADE, uid INTEGER NOT NULL,
    PRIMARY KEY (approval, uid)
) WITHOUT ROWID;
