-- How often a grant was tried on a day: calls that were refused after the host read for them, and writes that were sent.
CREATE TABLE attempts (
    account TEXT NOT NULL, plugin TEXT NOT NULL, grant_name TEXT NOT NULL, day INTEGER NOT NULL,
    count INTEGER NOT NULL CHECK (count >= 0), PRIMARY KEY (account, plugin, grant_name)
) WITHOUT ROWID;
